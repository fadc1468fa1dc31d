// The globe: which tiles exist in which years, drawn cell by cell.
const SIZE = 512;
const ROWS = 1800;
const COLUMNS = 3600;
const PARTLY = 0.6; // at least this much of the full alpha where a pixel has any tile

const WORLD = [[-180, -58], [180, 80]];

// --- Datasets: one mask of years a cell, row by row from the north-west -----------------

const grids = new Map();

// Bit planes: the union of all years, then for each year what of the union it lacks.
async function readGrid(dataset) {
  const bytes = new Uint8Array(await (await unpack(dataset.part)).arrayBuffer());
  const count = dataset.years.length;
  const cells = ROWS * COLUMNS;
  const grid = count <= 8 ? new Uint8Array(cells) : count <= 16 ? new Uint16Array(cells) : new Uint32Array(cells);
  const plane = cells / 8;
  for (let at = 0; at < plane; at++) {
    const union = bytes[at];
    if (!union) continue;
    for (let year = 0; year < count; year++) {
      const has = union & ~bytes[(year + 1) * plane + at];
      for (let bit = 0; bit < 8; bit++) if (has & (128 >> bit)) grid[8 * at + bit] |= 1 << year;
    }
  }
  return grid;
}

const gridOf = (dataset) => {
  if (!grids.has(dataset.id)) grids.set(dataset.id, readGrid(dataset));
  return grids.get(dataset.id);
};

function bits(mask) {
  let count = 0;
  for (let rest = mask >>> 0; rest; rest = (rest & (rest - 1)) >>> 0) count++;
  return count;
}

// --- Colours: those of the coverage texture ---------------------------------------------

const ALL = [0, 200, 0];
const LATEST = [255, 200, 0];
const OLDER = [200, 100, 0];

function colourOf(dataset, mask, year) {
  const total = dataset.years.length;
  const n = bits(mask);
  if (!n) return [0, 0, 0, 0];
  if (year >= 0) return (mask >>> year) & 1 ? [...(dataset.color ?? ALL), 255] : [0, 0, 0, 0];
  if (dataset.color) {
    const f = total <= 1 ? 1 : 0.5 + (0.5 * (n - 1)) / (total - 1);
    return [...dataset.color.map((v) => Math.trunc(v * f + 255 * (1 - f))), Math.trunc(140 + (60 * n) / total)];
  }
  if (n === total) return [...ALL, 255];
  if (n === 1) return [...((mask >>> (total - 1)) & 1 ? LATEST : OLDER), 255];
  const ratio = n / total;
  return [0, Math.trunc(200 * ratio), Math.trunc(100 + 155 * ratio), 255];
}

function legendOf(dataset, year) {
  const total = dataset.years.length;
  const last = dataset.years[total - 1];
  const row = (mask, text) => {
    const [r, g, b, a] = colourOf(dataset, mask, year);
    return [[r, g, b], text, a / 255];
  };
  const some = (n) => 2 ** n - 1;
  if (year >= 0) return [row(2 ** year, `Tiles of ${dataset.years[year]}`)];
  if (total === 1) return [row(1, `Tiles of ${last}`)];
  if (dataset.color) return [row(some(total), `All ${total} years`), row(1, "One year")];
  const rows = [row(some(total), `All ${total} years`)];
  if (total > 2) rows.push(row(some(total - 1), `${total - 1} years`));
  if (total > 3) rows.push(row(some(2), "2 years"));
  return [...rows, row(2 ** (total - 1), `Only ${last}`), row(1, total === 2 ? `Only ${dataset.years[0]}` : "Only one earlier year")];
}

// --- Tiles of the map, drawn from the grid ----------------------------------------------

const view = { dataset: null, grid: null, year: -1, turn: 0, lookup: new Map() };

function colourWord(mask) {
  let word = view.lookup.get(mask);
  if (word === undefined) {
    const [r, g, b, a] = colourOf(view.dataset, mask, view.year);
    word = ((a << 24) | (b << 16) | (g << 8) | r) >>> 0;
    view.lookup.set(mask, word);
  }
  return word;
}

// The grid's row (with its fraction) of each edge between the pixel rows of a tile.
function rowEdges(z, y) {
  const world = SIZE * 2 ** z;
  return Float64Array.from({ length: SIZE + 1 }, (_, k) => {
    const lat = Math.atan(Math.sinh(Math.PI * (1 - (2 * (y * SIZE + k)) / world)));
    return (90 - (lat * 180) / Math.PI) * 10;
  });
}

function drawCells(grid, pixels, edges, left, scale) {
  let before = -1;
  for (let py = 0; py < SIZE; py++) {
    const row = Math.floor((edges[py] + edges[py + 1]) / 2);
    const to = py * SIZE;
    if (row === before) {
      pixels.copyWithin(to, to - SIZE, to);
      continue;
    }
    before = row;
    for (let px = 0; px < SIZE; px++) {
      const mask = grid[row * COLUMNS + Math.floor(left + (px + 0.5) * scale)];
      if (mask) pixels[to + px] = colourWord(mask);
    }
  }
}

// Many cells a pixel: the mean colour of its tiles, fainter where they fill less of it.
function drawMeans(grid, pixels, edges, left, scale) {
  for (let py = 0; py < SIZE; py++) {
    const top = Math.floor(edges[py]);
    const bottom = Math.max(Math.ceil(edges[py + 1]), top + 1);
    for (let px = 0; px < SIZE; px++) {
      const first = Math.floor(left + px * scale);
      const end = Math.max(Math.ceil(left + (px + 1) * scale), first + 1);
      let [r, g, b, a, n] = [0, 0, 0, 0, 0];
      for (let row = top; row < bottom; row++) {
        for (let at = row * COLUMNS + first; at < row * COLUMNS + end; at++) {
          const word = grid[at] && colourWord(grid[at]);
          if (!word) continue;
          r += word & 255;
          g += (word >>> 8) & 255;
          b += (word >>> 16) & 255;
          a += word >>> 24;
          n++;
        }
      }
      if (!n) continue;
      const share = PARTLY + ((1 - PARTLY) * n) / ((bottom - top) * (end - first));
      pixels[py * SIZE + px] = ((Math.round((a / n) * share) << 24) | (Math.round(b / n) << 16) | (Math.round(g / n) << 8) | Math.round(r / n)) >>> 0;
    }
  }
}

function drawTile(z, x, y) {
  const image = new ImageData(SIZE, SIZE);
  const pixels = new Uint32Array(image.data.buffer);
  const scale = COLUMNS / (SIZE * 2 ** z);
  (scale > 1 ? drawMeans : drawCells)(view.grid, pixels, rowEdges(z, y), x * SIZE * scale, scale);
  return createImageBitmap(image);
}

// --- The page ---------------------------------------------------------------------------

const number = new Intl.NumberFormat("en");
const tiles = (n) => `${number.format(n)} ${n === 1 ? "tile" : "tiles"}`;
let map;
let countries;
let chosen = null; // what the read-out shows: a function that shows it anew

function command(what, cell) {
  const { dataset, year } = view;
  const mask = cell ? maskAt(cell) : 0;
  const has = dataset.years.filter((_, k) => (mask >>> k) & 1);
  const wanted = year >= 0 ? dataset.years[year] : (has.at(-1) ?? dataset.years.at(-1));
  return fill(dataset.command, { ...what, year: wanted, version: dataset.version, variant: dataset.variant });
}

const maskAt = ({ i, j }) => view.grid[(899 - j) * COLUMNS + i + 1800] ?? 0;

function showTile(cell, country) {
  chosen = () => showTile(cell, country);
  const name = cellName(cell);
  const { dataset } = view;
  const mask = maskAt(cell);
  const years = dataset.years.filter((_, k) => (mask >>> k) & 1);
  const rows = [["Years", years.length ? years.join(", ") : `none in ${dataset.label}`]];
  if (country) rows.push(["Country", country]);
  rows.push(["Centre", degrees(Number(centre(cell.i)), Number(centre(cell.j)), 2)]);
  const has = view.year < 0 ? years.length : (mask >>> view.year) & 1;
  if (years.length && !has) rows.push(["Shown year", `not in ${dataset.years[view.year]}`]);
  const line = has ? command({ name, lon: centre(cell.i), lat: centre(cell.j) }, cell) : null;
  showPlace(name, rows, line);
}

function choose({ lng, lat }, point) {
  if (!Number.isFinite(lng) || Math.abs(lat) > 90) return;
  const cell = cellAt(lng, lat);
  map.getSource("mark").setData(feature({ type: "LineString", coordinates: cellRing(cell, lng) }));
  const [found] = map.queryRenderedFeatures([point.x, point.y], { layers: ["land"] });
  showTile(cell, found?.properties.name);
}

function refresh() {
  const { dataset, year } = view;
  view.lookup.clear();
  view.turn += 1;
  map.getSource("cells").setTiles([`cells://{z}/{x}/{y}/${view.turn}`]);
  const shown = year < 0 ? dataset.counts.all : dataset.counts.years[year];
  $("year-value").textContent = year < 0 ? "all years" : String(dataset.years[year]);
  $("year").setAttribute("aria-valuetext", $("year-value").textContent);
  $("count").textContent =
    year < 0 && dataset.years.length > 1
      ? `${tiles(shown)}, ${number.format(dataset.counts.full)} of them in all ${dataset.years.length} years`
      : tiles(shown);
  showLegend(legendOf(dataset, year));
  if (chosen) chosen();
}

async function selectDataset(id) {
  const dataset = data.datasets.find((one) => one.id === id) ?? data.datasets[0];
  view.grid = await gridOf(dataset);
  view.dataset = dataset;
  view.year = -1;
  $("year").max = dataset.years.length;
  $("year").value = 0;
  $("year-ticks").replaceChildren(...["", ...dataset.years].map((_, k) => element("option", "", { value: k })));
  $("year").disabled = dataset.years.length < 2;
  refresh();
}

const plain = (text) =>
  text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase().replace(/[^\p{L}\p{N}]+/gu, " ").trim().replace(/^the /, "");

function findCountry(text) {
  const wanted = plain(text);
  if (!wanted) return null;
  const names = (one) => [one.name, ...one.codes, ...one.names].map(plain);
  const by = (suits) => countries.find((one) => names(one).some(suits));
  return by((name) => name === wanted) ?? by((name) => name.startsWith(wanted)) ?? by((name) => name.includes(wanted)) ?? null;
}

function showCountry(one) {
  const [w, s, e, n] = one.box;
  map.getSource("mark").setData(feature(one.geometry));
  map.fitBounds([[w, s], [e, n]], { padding: padding(), maxZoom: 9, animate: !STILL.matches });
  chosen = null;
  showPlace(one.name, [["Codes", one.codes.join(", ") || "none"]], null);
}

function wire() {
  $("year").addEventListener("input", () => {
    view.year = Number($("year").value) - 1;
    refresh();
  });
  $("dataset").addEventListener("change", () => selectDataset($("dataset").value));
  $("search").addEventListener("submit", (event) => {
    event.preventDefault();
    const found = findCountry($("country").value);
    if (found) showCountry(found);
    else showPlace("Not found", [["Country", `none is called “${$("country").value}”`]], null);
  });
  $("extent").addEventListener("click", () => showAll(!STILL.matches));
  onChoice(map, choose);
}

function showAll(animate) {
  const box = view.dataset.box;
  map.fitBounds(box ? [[box[0], box[1]], [box[2], box[3]]] : WORLD, { padding: padding(), maxZoom: 7, animate });
}

async function start() {
  const unfit = fitToDrive();
  if (unfit) return fail(unfit);
  countries = await loadCountries();
  $("dataset").replaceChildren(...data.datasets.map((one) => element("option", one.label, { value: one.id })));
  $("dataset").value = data.selected;
  $("countries").replaceChildren(...countries.map((one) => element("option", "", { value: one.name })));
  const made = await makeMap(countries, "globe", { center: [10, 20], zoom: 1.4, maxZoom: 14 });
  map = made.map;
  made.maplibre.addProtocol("cells", async ({ url }) => {
    const [z, x, y] = url.slice("cells://".length).split("/").map(Number);
    return { data: await drawTile(z, x, y) };
  });
  view.dataset = data.datasets.find((one) => one.id === data.selected);
  view.grid = await gridOf(view.dataset);
  map.addSource("cells", { type: "raster", tiles: ["cells://{z}/{x}/{y}/0"], tileSize: SIZE, maxzoom: 10 });
  map.addLayer({ id: "cells", type: "raster", source: "cells", paint: { "raster-opacity": 0.85, "raster-fade-duration": 0, "raster-resampling": "nearest" } }, "borders");
  await selectDataset(data.selected);
  wire();
  if (view.dataset.box) showAll(false);
  window.geotesseraMap = map;
  await map.once("idle");
  page.dataset.state = "ready";
}

start().catch((error) => {
  console.error(error);
  fail(`The globe cannot be drawn: ${error.message}`);
});
