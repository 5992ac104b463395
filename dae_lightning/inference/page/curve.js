// PSNR over sigma for one picture and one draw of the noise, as an SVG.

const HIGHEST_SIGMA = 8;
const LEVELS = Array.from({ length: 41 }, (_, i) => HIGHEST_SIGMA * (i / 40) ** 2); // dense where little noise is
const LEVELS_A_FRAME = 4;
const TICKS = [0, 0.25, 0.5, 1, 2, 3, 4, 6, 8];
const place = (sigma) => Math.sqrt(sigma / HIGHEST_SIGMA); // of a sigma along the axis, in [0, 1], as on the slider

// Calls `done` with a list of PSNR over LEVELS for each method; a later call takes the place of an unfinished one
let latestCurve = 0;
function computeCurves(methods, noisyAt, clean, done) {
  const mine = ++latestCurve;
  const curves = methods.map(() => []);
  const work = () => {
    if (mine !== latestCurve) return;
    for (let i = 0; i < LEVELS_A_FRAME && curves[0].length < LEVELS.length; i++) {
      const sigma = LEVELS[curves[0].length];
      const noisy = noisyAt(sigma);
      methods.forEach((method, m) => curves[m].push(psnr(method.estimate(noisy, sigma), clean)));
    }
    if (curves[0].length < LEVELS.length) requestAnimationFrame(work);
    else done(curves);
  };
  requestAnimationFrame(work);
}

function element(name, attributes, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

function drawCurves(svg, methods, curves, sigma) {
  const width = svg.clientWidth;
  const height = svg.clientHeight;
  const margin = { left: 40, right: 16, top: 28, bottom: 40 };
  const highest = Math.max(20, ...curves.flat().filter((value) => value < 30));
  const top = 5 * Math.ceil(highest / 5);
  const x = (level) => margin.left + place(level) * (width - margin.left - margin.right);
  const y = (value) => height - margin.bottom - (Math.min(value, 2 * top) / top) * (height - margin.top - margin.bottom);
  const bottom = y(0);

  const clip = element("clipPath", { id: "inside" });
  clip.append(element("rect", { x: margin.left, y: margin.top, width: width - margin.left, height: bottom - margin.top }));
  const parts = [clip];
  for (let value = 0; value <= top; value += 5) {
    parts.push(element("line", { x1: margin.left, x2: width - margin.right, y1: y(value), y2: y(value), class: "grid" }));
    parts.push(element("text", { x: margin.left - 8, y: y(value) + 4, "text-anchor": "end" }, String(value)));
  }
  for (const tick of width < 500 ? TICKS.filter((sigma) => sigma !== 0.25 && sigma !== 3) : TICKS) {
    parts.push(element("text", { x: x(tick), y: bottom + 18, "text-anchor": "middle" }, String(tick)));
  }
  parts.push(element("text", { x: width - margin.right, y: height - 6, "text-anchor": "end" }, "sigma"));
  parts.push(element("text", { x: 0, y: 12 }, "PSNR in dB"));
  parts.push(element("line", { x1: x(sigma), x2: x(sigma), y1: margin.top, y2: bottom, class: "here" }));
  methods.forEach((method, m) => {
    const points = curves[m].map((value, i) => `${x(LEVELS[i]).toFixed(1)},${y(value).toFixed(1)}`);
    const style = `stroke: ${method.colour}`;
    parts.push(element("polyline", { points: points.join(" "), class: `line ${method.kind}`, style, "clip-path": "url(#inside)" }));
    if (method.sigma > 0 && method.sigma <= HIGHEST_SIGMA) {
      parts.push(element("circle", { cx: x(method.sigma), cy: y(valueAt(curves[m], method.sigma)), r: 6, class: "ring", style }));
    }
    const here = valueAt(curves[m], sigma);
    if (here >= 0 && here <= top) {
      parts.push(element("circle", { cx: x(sigma), cy: y(here), r: 3.5, style: `fill: ${method.colour}` }));
    }
  });
  svg.replaceChildren(...parts);
}

// A curve between two of its LEVELS, along a straight line
function valueAt(curve, sigma) {
  const position = place(Math.min(sigma, HIGHEST_SIGMA)) * (LEVELS.length - 1);
  const before = Math.min(Math.floor(position), LEVELS.length - 2);
  const share = position - before;
  return share === 0 ? curve[before] : (1 - share) * curve[before] + share * curve[before + 1];
}
