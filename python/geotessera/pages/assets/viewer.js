// The viewer: a mosaic's tiles over the offline base map.
const SIZE = 256;
const [WEST, SOUTH, EAST, NORTH] = data.bounds; // EAST is beyond 180 where the box crosses it
const fromDisk = location.protocol === "file:";
const extent = [[WEST, SOUTH], [EAST, NORTH]];

// --- Tiles: fetched from a server; from a disk out of packs, which are scripts ----------

const packs = new Map();
const contents = new Map(); // "z/x/y" -> promise of the PNG's bytes or null
const pictures = new Map(); // "z/x/y" -> promise of its pixels or null

function keep(cache, key, value, limit) {
  cache.set(key, value);
  if (cache.size > limit) cache.delete(cache.keys().next().value);
  return value;
}

window.geotesseraTiles = (tiles) => Object.assign(window.geotesseraTiles.arrived, tiles);
window.geotesseraTiles.arrived = {};

function loadPack(address) {
  if (packs.has(address)) return packs.get(address);
  const loaded = new Promise((resolve) => {
    const script = document.createElement("script");
    script.src = address;
    const done = () => {
      const tiles = window.geotesseraTiles.arrived;
      window.geotesseraTiles.arrived = {};
      script.remove();
      resolve(tiles);
    };
    script.onload = done;
    script.onerror = () => resolve({}); // no pack: no tiles there
    document.head.append(script);
  });
  return keep(packs, address, loaded, 24); // up to 64 tiles each
}

// "z/y" -> columns, where ranges of tiles begin and end; null where nobody said which there are.
const rows = data.listing && new Map(data.listing.map(([z, y, ...ends]) => [`${z}/${y}`, ends]));

function exists(z, x, y) {
  if (rows) return ((rows.get(`${z}/${y}`) ?? []).filter((end) => end <= x).length & 1) === 1;
  const n = 2 ** z;
  const lon = (k) => (k / n) * 360 - 180;
  const lat = (k) => (Math.atan(Math.sinh(Math.PI * (1 - (2 * k) / n))) * 180) / Math.PI;
  const across = [0, 360].some((turn) => lon(x) + turn < EAST && lon(x + 1) + turn > WEST);
  return z >= data.zooms[0] && z <= data.zooms[1] && across && lat(y) > SOUTH && lat(y + 1) < NORTH;
}

async function readTile(z, x, y) {
  if (!data.tiles || !exists(z, x, y)) return null;
  if (fromDisk) {
    if (!data.packs) return null;
    const address = fill(data.packs, { z, x, y, x8: x >> 3, y8: y >> 3 });
    const found = (await loadPack(address))[`${z}/${x}/${y}`];
    return found ? Uint8Array.from(atob(found), (c) => c.charCodeAt(0)).buffer : null;
  }
  const row = data.scheme === "tms" ? 2 ** z - 1 - y : y;
  const answer = await fetch(fill(data.tiles, { z, x, y: row }));
  return answer.ok ? answer.arrayBuffer() : null; // a tile that is not there is empty
}

function tileBytes(z, x, y) {
  const key = `${z}/${x}/${y}`;
  return contents.get(key) ?? keep(contents, key, readTile(z, x, y), 512);
}

async function decode(z, x, y) {
  const bytes = await tileBytes(z, x, y);
  if (!bytes) return null;
  const options = { premultiplyAlpha: "none", colorSpaceConversion: "none" };
  const bitmap = await createImageBitmap(new Blob([bytes]), options);
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height);
}

// The colour of a place at the zoom that is drawn; null where the mosaic has no pixel.
async function colourAt(map, lon, lat) {
  const z = Math.min(Math.round(map.getZoom() + 1), data.zooms[1]);
  const n = 2 ** z;
  const u = ((wrap(lon) + 180) / 360) * n;
  const v = ((1 - Math.asinh(Math.tan((lat * Math.PI) / 180)) / Math.PI) / 2) * n;
  const [x, y] = [Math.floor(u), Math.floor(v)];
  const key = `${z}/${x}/${y}`;
  const picture = await (pictures.get(key) ?? keep(pictures, key, decode(z, x, y), 64)).catch(() => null);
  if (!picture) return null;
  const at = 4 * (Math.floor((v - y) * picture.height) * picture.width + Math.floor((u - x) * picture.width));
  const [r, g, b, a] = picture.data.subarray(at, at + 4);
  return a ? [r, g, b] : null;
}

// --- Layers -----------------------------------------------------------------------------

function tileGrid(map) {
  const box = map.getBounds();
  if (map.getZoom() < 5.5) return collection([]);
  const lines = [];
  const [w, e] = [Math.floor(box.getWest() * 10), Math.ceil(box.getEast() * 10)];
  const [s, n] = [Math.floor(box.getSouth() * 10), Math.ceil(box.getNorth() * 10)];
  for (let i = w; i <= e; i++) lines.push([[i / 10, s / 10], [i / 10, n / 10]]);
  for (let j = s; j <= n; j++) lines.push([[w / 10, j / 10], [e / 10, j / 10]]);
  return collection([feature({ type: "MultiLineString", coordinates: lines })]);
}

function addLayers(map) {
  const c = colours();
  const ring = [[WEST, SOUTH], [EAST, SOUTH], [EAST, NORTH], [WEST, NORTH], [WEST, SOUTH]];
  map.addSource("extent", { type: "geojson", data: feature({ type: "LineString", coordinates: ring }) });
  map.addSource("mosaic", {
    type: "raster", tiles: ["tessera://{z}/{x}/{y}"], tileSize: SIZE, minzoom: data.zooms[0], maxzoom: data.zooms[1],
  });
  map.addSource("grid", { type: "geojson", data: collection([]) });
  map.addLayer({ id: "extent", type: "line", source: "extent", paint: { "line-color": c.mark, "line-width": 1.2, "line-dasharray": [3, 2] } }, "mark");
  map.addLayer({ id: "mosaic", type: "raster", source: "mosaic", paint: { "raster-fade-duration": STILL.matches ? 0 : 150, "raster-resampling": "nearest" } }, "mark");
  map.addLayer({ id: "grid", type: "line", source: "grid", paint: { "line-color": c.name, "line-width": 0.8, "line-opacity": 0.6 }, layout: { visibility: "none" } }, "mark");
  if (data.region) {
    map.addSource("region", { type: "geojson", data: data.region });
    map.addLayer({ id: "region-halo", type: "line", source: "region", paint: { "line-color": "#000", "line-width": 4, "line-opacity": 0.55 } }, "mark");
    map.addLayer({ id: "region", type: "line", source: "region", paint: { "line-color": "#ffd400", "line-width": 2 } }, "mark");
  }
}

function showBasemap(map, url, credit) {
  if (map.getLayer("online")) map.removeLayer("online");
  if (map.getSource("online")) map.removeSource("online");
  if (!url) return;
  map.addSource("online", { type: "raster", tiles: [url], tileSize: SIZE, attribution: element("i", credit).innerHTML });
  map.addLayer({ id: "online", type: "raster", source: "online" }, "borders");
}

const showAll = (map, animate) => map.fitBounds(extent, { padding: 40, animate });

// --- The page ---------------------------------------------------------------------------

function wireControls(map) {
  $("opacity").addEventListener("input", () => {
    const percent = Number($("opacity").value);
    $("opacity-value").textContent = `${percent}%`;
    map.setPaintProperty("mosaic", "raster-opacity", percent / 100);
  });
  const toggle = (box, ...layers) =>
    $(box).addEventListener("change", () => {
      for (const one of layers) map.setLayoutProperty(one, "visibility", $(box).checked ? "visible" : "none");
    });
  $("outline-choice").hidden = !data.region;
  if (data.region) toggle("show-region", "region", "region-halo");
  toggle("show-grid", "grid");
  toggle("show-labels", "names");
  const redraw = () => $("show-grid").checked && map.getSource("grid").setData(tileGrid(map));
  $("show-grid").addEventListener("change", redraw);
  map.on("moveend", redraw);
  $("extent").addEventListener("click", () => showAll(map, !STILL.matches));
  const form = $("basemap");
  if (data.basemap) {
    $("basemap-url").value = data.basemap.url;
    $("basemap-credit").value = data.basemap.attribution;
  }
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    showBasemap(map, $("basemap-url").value, $("basemap-credit").value);
  });
  $("basemap-off").addEventListener("click", () => showBasemap(map, ""));
}

function wireReadout(map) {
  let wanted = null;
  map.on("mousemove", async (event) => {
    const mine = (wanted = {});
    const { lng, lat } = event.lngLat;
    const rgb = await colourAt(map, lng, lat);
    if (mine !== wanted) return;
    $("pointer").replaceChildren(degrees(lng, lat), element("br", ""));
    $("pointer").append(...(rgb ? [swatch(rgb), `RGB ${rgb.join(", ")}`] : ["no pixel here"]));
  });
  onChoice(map, async ({ lng, lat }) => {
    const cell = cellAt(lng, lat);
    const name = cellName(cell);
    const [lon, la] = [centre(cell.i), centre(cell.j)];
    map.getSource("mark").setData(feature({ type: "LineString", coordinates: cellRing(cell, lng) }));
    const rgb = await colourAt(map, lng, lat);
    const pixel = element("span", "");
    pixel.append(...(rgb ? [swatch(rgb), `RGB ${rgb.join(", ")}`] : ["none here"]));
    showPlace(name, [["Place", degrees(lng, lat)], ["Pixel", pixel]], fill(data.command, { name, lon, lat: la }));
  });
}

function showFacts() {
  showLegend(data.legend);
  $("about").hidden = !data.meta.length;
  for (const [name, value] of data.meta) $("meta").append(element("dt", name), element("dd", value));
}

async function start() {
  const unfit = whyNot();
  if (unfit) return fail(unfit);
  showFacts();
  const { map, maplibre } = await makeMap(await loadCountries(), "mercator", {
    minZoom: 0, maxZoom: Math.min(data.zooms[1] + 3, 23),
  });
  maplibre.addProtocol("tessera", async ({ url }) => {
    const [z, x, y] = url.slice("tessera://".length).split("/").map(Number);
    return { data: await tileBytes(z, x, y).catch(() => null) };
  });
  // Zooms are those of 256-pixel tiles; the map counts in tiles of 512.
  showAll(map, false);
  if (data.center) map.setCenter(data.center);
  if (data.initialZoom !== null) map.setZoom(data.initialZoom - 1);
  addLayers(map);
  wireControls(map);
  wireReadout(map);
  if (data.basemap) showBasemap(map, data.basemap.url, data.basemap.attribution);
  if (fromDisk && data.tiles && !data.packs) {
    notice("A browser may not read these tiles from a disk. Show the map with: geotessera serve DIRECTORY");
  }
  window.geotesseraMap = map;
  await map.once("idle");
  page.dataset.state = "ready";
}

start().catch((error) => {
  console.error(error);
  fail(`The map cannot be drawn: ${error.message}`);
});
