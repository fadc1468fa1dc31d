// The globe: which tiles exist in which years, drawn cell by cell.
const SIZE = 512;
const MAX_ZOOM = 13;
const ROWS = 1800;
const COLUMNS = 3600;
const PARTLY = 0.6; // at least this much of the full alpha where a pixel has any tile

// --- Datasets: one mask of years a cell, row by row from the north-west -----------------

const grids = new Map();

// Bit planes: the union of all years, then for each year what of the union it lacks.
async function readGrid(dataset) {
  const bytes = new Uint8Array(await (await unpack(dataset.part)).arrayBuffer());
  const count = dataset.years.length;
  const cells = ROWS * COLUMNS;
  const grid = count <= 8 ? new Uint8Array(cells) : count <= 16 ? new Uint16Array(cells) : new Uint32Array(cells);
  const plane = cells / 8;
  const every = 2 ** count - 1;
  for (let at = 0; at < plane; at++) {
    const union = bytes[at];
    if (!union) continue;
    for (let bit = 0; bit < 8; bit++) if (union & (128 >> bit)) grid[8 * at + bit] = every;
    for (let year = 0; year < count; year++) {
      const lacks = bytes[(year + 1) * plane + at];
      if (!lacks) continue;
      for (let bit = 0; bit < 8; bit++) if (lacks & (128 >> bit)) grid[8 * at + bit] &= ~(1 << year);
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

// A cell or less a pixel: every pixel is that of one cell; large cells have an edge.
function drawCells(grid, pixels, edges, left, scale) {
  const edged = scale < 1 / 12;
  const columns = Int32Array.from({ length: SIZE + 1 }, (_, px) => Math.floor(left + (px - 0.5) * scale));
  let before = -1;
  let copied = false; // whether the line above is without the edge between rows
  for (let py = 0; py < SIZE; py++) {
    const row = Math.floor((edges[py] + edges[py + 1]) / 2);
    const to = py * SIZE;
    if (row === before && copied) {
      pixels.copyWithin(to, to - SIZE, to);
      continue;
    }
    copied = row === before || !edged;
    const top = edged && row !== before && py > 0;
    before = row;
    for (let px = 0; px < SIZE; px++) {
      const mask = grid[row * COLUMNS + columns[px + 1]];
      if (!mask) continue;
      const word = colourWord(mask);
      pixels[to + px] = edged && (top || (px > 0 && columns[px] !== columns[px + 1])) ? darker(word) : word;
    }
  }
}

// Three quarters of each of red, green and blue.
const darker = (word) => ((word & 0xff000000) | (((word & 0xfefefe) >>> 1) + ((word & 0xfcfcfc) >>> 2))) >>> 0;

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

function commandFor(template, mask, values) {
  const { dataset, year } = view;
  const has = dataset.years.filter((_, k) => (mask >>> k) & 1);
  const wanted = year >= 0 ? dataset.years[year] : has.at(-1);
  return fill(template, { ...values, year: wanted, version: dataset.version, variant: dataset.variant });
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
  const values = { name, lon: centre(cell.i), lat: centre(cell.j) };
  showPlace(name, rows, has ? commandFor(data.command, mask, values) : null);
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
  const only = dataset.years.length === 1 ? 0 : year;
  $("year-value").textContent = only < 0 ? "all years" : String(dataset.years[only]);
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
  const before = view.dataset?.years[view.year];
  view.grid = await gridOf(dataset);
  view.dataset = dataset;
  view.year = dataset.years.indexOf(before); // -1: all years
  $("year").max = dataset.years.length;
  $("year").value = view.year + 1;
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

// The years of each tile whose centre is inside an outline, by scan lines.
function* masksInside(geometry, [west, south, east, north]) {
  const rings = geometry.coordinates.flat();
  const last = Math.min(Math.floor((90 - south) * 10), ROWS - 1);
  for (let row = Math.max(Math.floor((90 - north) * 10), 0); row <= last; row++) {
    const lat = 90 - (row + 0.5) / 10;
    const crossings = [];
    for (const ring of rings) {
      for (let k = 1; k < ring.length; k++) {
        const [[x0, y0], [x1, y1]] = [ring[k - 1], ring[k]];
        if (y0 > lat !== y1 > lat) crossings.push(x0 + ((lat - y0) / (y1 - y0)) * (x1 - x0));
      }
    }
    crossings.sort((a, b) => a - b);
    for (let k = 0; k + 1 < crossings.length; k += 2) {
      const first = Math.max(Math.ceil((crossings[k] + 180) * 10 - 0.5), 0);
      const end = Math.min(Math.ceil((crossings[k + 1] + 180) * 10 - 0.5), COLUMNS);
      for (let column = first; column < end; column++) {
        const mask = view.grid[row * COLUMNS + column];
        if (mask) yield mask;
      }
    }
  }
}

function showCountry(one) {
  chosen = () => showCountry(one);
  const { dataset, year } = view;
  const every = 2 ** dataset.years.length - 1;
  let [some, all, union] = [0, 0, 0];
  for (const mask of masksInside(one.whole, one.box)) {
    if (year >= 0 && !((mask >>> year) & 1)) continue;
    some += 1;
    union |= mask;
    if (mask >>> 0 === every) all += 1;
  }
  const rows = [["Codes", one.codes.join(", ")], ["Tiles", `${number.format(some)} with their centre inside`]];
  if (year < 0 && dataset.years.length > 1) rows.push(["All years", number.format(all)]);
  showPlace(one.name, rows, some ? commandFor(data.countryCommand, union, { country: one.codes.at(-1) }) : null);
}

function goTo(one) {
  const [w, s, e, n] = one.box;
  map.getSource("mark").setData(feature(one.whole));
  map.fitBounds([[w, s], [e, n]], { padding: 40, maxZoom: 9, animate: !STILL.matches });
  showCountry(one);
}

function search() {
  const text = $("country").value.trim();
  const found = findCountry(text);
  if (found) goTo(found);
  else if (text) showPlace("Not found", [["Country", `none is called “${text}”`]], null);
}

function wire() {
  $("year").addEventListener("input", () => {
    view.year = Number($("year").value) - 1;
    refresh();
  });
  $("dataset").addEventListener("change", () => selectDataset($("dataset").value));
  $("search").addEventListener("submit", (event) => {
    event.preventDefault();
    search();
  });
  // Chosen from the list; what is being typed waits for Enter.
  $("country").addEventListener("change", () => countries.some((one) => one.name === $("country").value) && search());
  $("extent").addEventListener("click", () => showAll(!STILL.matches));
  onChoice(map, choose);
}

// The whole globe, as large as the room beside the panel allows.
function wholeGlobe(lat) {
  const room = map.getPadding();
  const radius = 0.56 * Math.min(innerWidth - room.left, innerHeight - room.bottom);
  return Math.log2((radius * 2 * Math.PI * Math.cos((lat * Math.PI) / 180)) / 512);
}

function showAll(animate) {
  const box = view.dataset.box;
  if (box) map.fitBounds([[box[0], box[1]], [box[2], box[3]]], { padding: 60, maxZoom: 7, animate });
  else map.easeTo({ center: [10, 20], zoom: wholeGlobe(20), pitch: 0, bearing: 0, animate });
}

async function start() {
  const unfit = whyNot();
  if (unfit) return fail(unfit);
  const ready = gridOf(data.datasets.find((one) => one.id === data.selected));
  countries = await loadCountries();
  $("dataset").replaceChildren(...data.datasets.map((one) => element("option", one.label, { value: one.id })));
  $("dataset").value = data.selected;
  $("countries").replaceChildren(...countries.map((one) => element("option", "", { value: one.name })));
  const made = await makeMap(countries, "globe", { center: [10, 20], zoom: 1, maxZoom: MAX_ZOOM });
  map = made.map;
  made.maplibre.addProtocol("cells", async ({ url }) => {
    const [z, x, y] = url.slice("cells://".length).split("/").map(Number);
    return { data: await drawTile(z, x, y) };
  });
  await ready;
  map.addSource("cells", { type: "raster", tiles: ["cells://{z}/{x}/{y}/0"], tileSize: SIZE, maxzoom: MAX_ZOOM });
  map.addLayer({ id: "cells", type: "raster", source: "cells", paint: { "raster-fade-duration": 0, "raster-resampling": "nearest" } }, "borders");
  await selectDataset(data.selected);
  wire();
  showAll(false);
  window.geotesseraMap = map;
  await map.once("idle");
  page.dataset.state = "ready";
}

start().catch((error) => {
  console.error(error);
  fail(`The globe cannot be drawn: ${error.message}`);
});
