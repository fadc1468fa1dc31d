// What both pages share: unpacking, the map with its offline base, tile names, the read-out.
const $ = (id) => document.getElementById(id);
const page = document.documentElement;
const data = JSON.parse($("data").textContent);
const STILL = matchMedia("(prefers-reduced-motion: reduce)");
const DARK = matchMedia("(prefers-color-scheme: dark)");

const narrow = () => innerWidth <= 640;
if (narrow()) $("panel").firstElementChild.open = false; // the map first

function notice(text) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

function fail(text) {
  notice(text);
  page.dataset.state = "failed";
}

// The parts are deflated and in base64: smaller, and nothing in them ends a script element.
async function unpack(id) {
  const bytes = Uint8Array.from(atob($(id).textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream);
}

async function codeUrl(id) {
  const text = await (await unpack(id)).text();
  return URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
}

function whyNot() {
  if (!("DecompressionStream" in window)) {
    return "This browser is too old for the map: it cannot unpack the page's data. Any browser of 2023 or later can.";
  }
  if (!document.createElement("canvas").getContext("webgl2")) {
    return "The map cannot be drawn: this browser has no WebGL 2, or it is switched off. Switch on hardware acceleration in its settings, or open this page in another browser.";
  }
  return "";
}

// --- The tile grid: cells of 0.1 degrees, as geotessera.grid has it --------------------

const wrap = (lon) => (lon >= -180 && lon < 180 ? lon : ((((lon + 180) % 360) + 360) % 360) - 180);

function cellAt(lon, lat) {
  return { i: Math.floor(wrap(lon) * 10), j: Math.min(Math.floor(lat * 10), 899) };
}

const centre = (index) => ((2 * index + 1) / 20).toFixed(2);
const cellName = ({ i, j }) => `grid_${centre(i)}_${centre(j)}`;

function cellRing({ i, j }, near = 0) {
  const turn = 360 * Math.round((near - i / 10) / 360); // on the copy of the world that was clicked
  const [w, e, s, n] = [i / 10 + turn, (i + 1) / 10 + turn, j / 10, (j + 1) / 10];
  return [[w, s], [e, s], [e, n], [w, n], [w, s]];
}

function fill(template, values) {
  return template.replace(/\{(\w+)\}/g, (whole, key) => (key in values ? values[key] : whole));
}

function degrees(lon, lat, digits = 5) {
  const one = (value, plus, minus) => `${Math.abs(value).toFixed(digits)}° ${value < 0 ? minus : plus}`;
  return `${one(lat, "N", "S")}, ${one(wrap(lon), "E", "W")}`;
}

// --- Countries and graticule ----------------------------------------------------------

async function loadCountries() {
  const { step, countries } = await (await unpack("countries-data")).json();
  const ring = (deltas) => {
    const points = [];
    let x = 0;
    let y = 0;
    for (let k = 0; k < deltas.length; k += 2) {
      x += deltas[k];
      y += deltas[k + 1];
      points.push([x * step, y * step]);
    }
    return points;
  };
  for (const one of countries) {
    one.geometry = { type: "MultiPolygon", coordinates: one.rings.map((polygon) => polygon.map(ring)) };
    one.title = one.partOf ? `${one.name} (${one.partOf})` : one.name;
    delete one.rings;
  }
  // Drawn is each place once; a country that is looked for has its parts overseas, too.
  for (const one of countries) {
    const all = [one, ...countries.filter((part) => part.partOf === one.name)];
    one.whole = { type: "MultiPolygon", coordinates: all.flatMap((part) => part.geometry.coordinates) };
  }
  return countries;
}

const collection = (features) => ({ type: "FeatureCollection", features });
const feature = (geometry, properties = {}) => ({ type: "Feature", properties, geometry });

function graticule(step) {
  const lines = [];
  for (let lon = -180; lon < 180; lon += step) {
    lines.push(Array.from({ length: 69 }, (_, k) => [lon, -85 + 2.5 * k]));
  }
  for (let lat = -90 + step; lat < 90; lat += step) {
    lines.push(Array.from({ length: 145 }, (_, k) => [-180 + 2.5 * k, lat]));
  }
  return feature({ type: "MultiLineString", coordinates: lines });
}

const LIGHT_COLOURS = {
  ocean: "#bfd6e6", land: "#f4f2ec", border: "#8d99a6", grid: "#a6bfd0",
  name: "#33404d", halo: "#ffffff", mark: "#d6006c",
};
const DARK_COLOURS = {
  ocean: "#122538", land: "#2b3743", border: "#75838f", grid: "#25405a",
  name: "#dbe4ec", halo: "#101820", mark: "#ff6ab0",
};
const colours = () => (DARK.matches ? DARK_COLOURS : LIGHT_COLOURS);

function baseStyle(countries, projection) {
  const c = colours();
  const names = countries.map((one) =>
    feature({ type: "Point", coordinates: one.label }, { name: one.name, rank: one.rank }),
  );
  return {
    version: 8,
    projection: { type: projection },
    sources: {
      land: { type: "geojson", data: collection(countries.map((one) => feature(one.geometry, { name: one.title }))), tolerance: 0.2 },
      names: { type: "geojson", data: collection(names) },
      graticule: { type: "geojson", data: graticule(15) },
      mark: { type: "geojson", data: collection([]) },
    },
    layers: [
      { id: "ocean", type: "background", paint: { "background-color": c.ocean } },
      { id: "graticule", type: "line", source: "graticule", paint: { "line-color": c.grid, "line-width": 0.7 } },
      { id: "land", type: "fill", source: "land", paint: { "fill-color": c.land, "fill-antialias": false } },
      { id: "borders", type: "line", source: "land", paint: { "line-color": c.border, "line-width": ["interpolate", ["linear"], ["zoom"], 1, 0.5, 8, 1.4] } },
      { id: "mark", type: "line", source: "mark", paint: { "line-color": c.mark, "line-width": ["interpolate", ["linear"], ["zoom"], 3, 1.2, 7, 2.5] } },
      {
        id: "names", type: "symbol", source: "names",
        filter: [">=", ["zoom"], ["get", "rank"]],
        layout: { "text-field": ["get", "name"], "text-size": 13, "text-max-width": 8, "symbol-sort-key": ["get", "rank"] },
        paint: { "text-color": c.name, "text-halo-color": c.halo, "text-halo-width": 1.4 },
      },
    ],
  };
}

const PAINTS = {
  ocean: ["background-color", "ocean"], graticule: ["line-color", "grid"], land: ["fill-color", "land"],
  borders: ["line-color", "border"], mark: ["line-color", "mark"], names: ["text-color", "name"],
};

function followTheme(map) {
  DARK.addEventListener("change", () => {
    const c = colours();
    for (const [layer, [property, colour]] of Object.entries(PAINTS)) map.setPaintProperty(layer, property, c[colour]);
    map.setPaintProperty("names", "text-halo-color", c.halo);
  });
}

const CREDIT = "Natural Earth · MapLibre";

async function makeMap(countries, projection, options) {
  const maplibre = await import(await codeUrl("maplibre-code"));
  maplibre.setWorkerUrl(await codeUrl("maplibre-worker"));
  const map = new maplibre.Map({
    container: "map",
    style: baseStyle(countries, projection),
    attributionControl: { compact: false, customAttribution: CREDIT },
    fadeDuration: STILL.matches ? 0 : 150,
    maxPitch: 60,
    dragRotate: projection === "globe",
    ...options,
  });
  map.addControl(new maplibre.NavigationControl({ showCompass: projection === "globe" }), "top-right");
  map.addControl(new maplibre.ScaleControl({ maxWidth: 120 }), "bottom-right");
  map.on("error", (event) => console.warn("map:", event.error?.message ?? event));
  map.on("webglcontextlost", () => notice("The graphics card stopped drawing. Load the page again if the map stays empty."));
  map.on("webglcontextrestored", () => notice(""));
  map.getCanvas().setAttribute("aria-label", `${data.title}: map. Arrow keys move it, plus and minus zoom, Enter reads out its centre.`);
  const clear = () => keepClear(map);
  clear();
  map.on("resize", clear);
  $("panel").firstElementChild.addEventListener("toggle", clear);
  await map.once("load");
  followTheme(map);
  return { map, maplibre };
}

// The panel's share of the window: the map's centre is the middle of the rest.
function keepClear(map) {
  const panel = $("panel").getBoundingClientRect();
  const beside = panel.width < innerWidth * 0.6;
  const room = beside
    ? { left: panel.right, top: 0, right: 0, bottom: 0 }
    : { left: 0, top: 0, right: 0, bottom: Math.min(innerHeight - panel.top, innerHeight * 0.5) };
  map.setPadding(room);
  $("map").style.setProperty("--centre-x", `${(room.left + innerWidth - room.right) / 2}px`);
  $("map").style.setProperty("--centre-y", `${(room.top + innerHeight - room.bottom) / 2}px`);
}

// A click, or Enter at the map's centre.
function onChoice(map, choose) {
  map.on("click", (event) => choose(event.lngLat, event.point));
  map.getCanvas().addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    choose(map.getCenter(), map.project(map.getCenter()));
  });
}

// --- Read-out -------------------------------------------------------------------------

function element(tag, text, attributes = {}) {
  const node = document.createElement(tag);
  node.textContent = text;
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

function swatch(rgb, alpha = 1) {
  const node = element("span", "", { class: "swatch", "aria-hidden": "true" });
  node.style.backgroundColor = `rgb(${rgb.join(" ")} / ${alpha})`;
  return node;
}

function showLegend(rows) {
  $("legend").hidden = !rows.length;
  $("legend").replaceChildren(
    ...rows.map(([rgb, text, alpha]) => {
      const item = element("li", "");
      item.append(swatch(rgb, alpha), text);
      return item;
    }),
  );
}

function showPlace(title, rows, command) {
  const list = element("dl", "");
  for (const [name, value] of rows) {
    const cell = element("dd", "");
    cell.append(value);
    list.append(element("dt", name), cell);
  }
  $("place").replaceChildren(element("strong", title), list);
  $("command").hidden = !command;
  $("command-text").textContent = command ?? "";
  $("copy").textContent = "Copy";
  if (!narrow()) return;
  $("panel").firstElementChild.open = true;
  $("place").parentElement.scrollIntoView({ block: "start" });
}

$("copy").addEventListener("click", async () => {
  const text = $("command-text").textContent;
  try {
    await navigator.clipboard.writeText(text);
    $("copy").textContent = "Copied";
  } catch {
    // Without leave for the clipboard: the text is selected, to be copied by hand.
    getSelection().selectAllChildren($("command-text"));
    $("copy").textContent = "Press Ctrl+C";
  }
});
