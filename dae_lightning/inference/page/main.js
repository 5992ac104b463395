// What the page shows of its state, and how one changes it.

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const { shape } = data;
const pixels = shape[0] * shape[1] * shape[2];
const samples = imagesOf(data.samples);
// Which sigma a network that takes one is given with an image
const levelOf = (image, sigma) => (state.told ? sigma : estimateSigma(image, shape, data.clipped_details));
const models = data.models.map((packed, i) => makeModel(packed, i, levelOf));
const meanImage = floatsOf(data.prior.mean);
const wiener = makeWiener(data.prior, data.noise_mean);
const colours = models.map((_, i) => `oklch(var(--lightness) 0.15 ${(255 + i * 137.5) % 360})`); // far apart, any number

// What is shown for noisy pictures, and drawn as curves; `estimate` is a function of a noisy picture and its sigma
const methods = [
  { name: "Noisy", detail: "what goes in", kind: "noisy", colour: "var(--quiet)", estimate: (noisy) => noisy },
  ...models.map((model, i) => ({
    name: models.length > 1 ? `Denoised by ${model.letter}` : "Denoised",
    detail: `trained on ${model.trained}`,
    kind: "model",
    colour: colours[i],
    sigma: model.sigma,
    takesSigma: model.takesSigma,
    estimate: model.denoise,
  })),
  { name: "Wiener filter", detail: "best linear, told sigma", kind: "wiener", colour: "var(--ink)", estimate: wiener },
  { name: "Mean image", detail: "ignores its input", kind: "mean", colour: "var(--quiet)", estimate: () => meanImage },
];

const state = { clean: samples[0].slice(), sigma: 2, seed: 1, clip: data.clip, told: false };
let normal = normals(state.seed, pixels);
let noisy = null;
let curves = null;

const noisyAt = (sigma) => addNoise(state.clean, normal, data.noise_mean, sigma, state.clip);
const decibels = (value) => (value > 99 ? "exact" : `${value.toFixed(2)} dB`.replace("-", "−"));

// --- figures ----------------------------------------------------------------------------------------------------------

function makeFigure(parent, name, detail, colour) {
  const figure = document.createElement("figure");
  figure.innerHTML = `<canvas class="pixels" role="img"></canvas>
    <figcaption><b></b><span></span><output></output><small></small></figcaption>`;
  figure.style.setProperty("--accent", colour);
  figure.querySelector("b").textContent = name;
  figure.querySelector("span").textContent = detail;
  parent.append(figure);
  return (image, level) => {
    const value = decibels(psnr(image, state.clean));
    show(figure.firstChild, image, shape);
    figure.querySelector("output").textContent = value;
    figure.querySelector("small").textContent = level;
    figure.firstChild.setAttribute("aria-label", [name, value, level].filter(Boolean).join(", "));
    return figure;
  };
}

const denoisingFigures = methods.map((m) => makeFigure(byId("denoising"), m.name, m.detail, m.colour));
const reconstructionFigures = models.map((model, i) => {
  const name = models.length > 1 ? `Reconstruction ${model.letter}` : "Reconstruction";
  return makeFigure(byId("reconstruction"), name, `trained on ${model.trained}`, colours[i]);
});
const code = makeCodeView(shape, models, colours);

// Which sigma a model was given, in words, as a figure shows it; nothing for other networks
function levelShown(model, image, sigma) {
  if (!model.takesSigma) return "";
  return state.told ? `told sigma ${sigma}` : `estimates sigma ${levelOf(image, sigma).toFixed(2)}`;
}

function update() {
  noisy = noisyAt(state.sigma);
  const estimates = methods.map((method) => method.estimate(noisy, state.sigma));
  const scores = estimates.map((estimate) => psnr(estimate, state.clean));
  const best = scores.indexOf(Math.max(...scores));
  estimates.forEach((estimate, i) => {
    const figure = denoisingFigures[i](estimate, levelShown(methods[i], noisy, state.sigma));
    figure.classList.toggle("best", i === best);
  });
  models.forEach((model, i) => {
    reconstructionFigures[i](model.denoise(state.clean, 0), levelShown(model, state.clean, 0));
  });
  show(byId("clean"), state.clean, shape);
  code.update(noisy, state.sigma, state.clean);
  byId("sigma-shown").textContent = `sigma ${state.sigma}`;
  byId("sigma").setAttribute("aria-valuetext", `sigma ${state.sigma}`);
  byId("verdict").textContent = verdict(scores, best);
  if (curves) showCurves();
}

// What the scores say, in a sentence or two
function verdict(scores, best) {
  const told = [`Best here: ${methods[best].name}.`];
  methods.forEach((method, i) => {
    if (method.kind !== "model" || method.sigma === null) return;
    if (scores[i] < scores[0]) told.push(`${method.name}: worse than its input, as it knows only stronger noise.`);
    else if (scores[i] < scores.at(-1)) told.push(`${method.name}: worse than the mean image, which did not even look.`);
  });
  return told.join(" ");
}

function showCurves() {
  drawCurves(byId("curve"), methods, curves, state.sigma);
  const values = methods.map((method, m) => `${method.name}: ${decibels(valueAt(curves[m], state.sigma))}`);
  byId("curve").setAttribute("aria-label", `PSNR over sigma, from 0 to 8. At sigma ${state.sigma}: ${values.join("; ")}.`);
}

// The curves take longer than a frame, so they wait for a pause
let pause = 0;
function changed() {
  update();
  clearTimeout(pause);
  pause = setTimeout(() => computeCurves(methods, noisyAt, state.clean, (done) => ((curves = done), showCurves())), 100);
}

// --- controls ---------------------------------------------------------------------------------------------------------

// The slider goes by the root of sigma; its 200 steps end on numbers that are short to read
function sigmaOf(step) {
  const sigma = HIGHEST_SIGMA * (step / 200) ** 2;
  return sigma < 1 ? Math.round(sigma * 100) / 100 : Math.round(sigma * 20) / 20;
}

function setClean(image) {
  state.clean = image;
  byId("message").textContent = "";
  changed();
}

// A picture of one's own: none of the test images is chosen any more
function setOwn(image) {
  for (const input of byId("samples").querySelectorAll("input")) input.checked = false;
  setClean(image);
}

async function take(files) {
  const file = [...files].find((one) => one.type.startsWith("image/")) ?? files[0];
  if (!file) return;
  try {
    setOwn(await readPicture(file, shape));
  } catch (error) {
    byId("message").textContent = error.message;
  }
}

samples.forEach((sample, i) => {
  const label = document.createElement("label");
  label.innerHTML = `<input type="radio" name="sample"><canvas class="pixels"></canvas>`;
  const [input, canvas] = label.children;
  input.setAttribute("aria-label", `Test image ${i + 1} of ${samples.length}`);
  input.checked = i === 0;
  input.addEventListener("change", () => setClean(sample.slice()));
  show(canvas, sample, shape);
  byId("samples").append(label);
});

function setSigma(sigma) {
  state.sigma = sigma;
  update();
}

byId("sigma").addEventListener("input", (event) => setSigma(sigmaOf(event.target.value)));
byId("clip").addEventListener("change", (event) => {
  state.clip = event.target.checked;
  changed();
});
for (const name of ["estimated", "told"]) {
  byId(name).addEventListener("change", () => {
    state.told = name === "told";
    changed();
  });
}
byId("other").addEventListener("click", () => {
  state.seed += 1;
  normal = normals(state.seed, pixels);
  changed();
});
byId("clear").addEventListener("click", () => setOwn(new Float32Array(pixels)));
byId("invert").addEventListener("click", () => setOwn(state.clean.map((pixel) => 1 - pixel)));
byId("file").addEventListener("change", (event) => {
  take(event.target.files);
  event.target.value = "";
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  take(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => take(event.clipboardData.files));

function dot(x, y) {
  const rgb = byId("colour").value;
  const colour = [1, 3, 5].map((start) => parseInt(rgb.slice(start, start + 2), 16) / 255);
  paintDot(state.clean, x, y, colour, shape);
}

// Show where the brush is that the arrow keys move
function mark(x, y) {
  show(byId("clean"), state.clean, shape);
  const context = byId("clean").getContext("2d");
  context.fillStyle = "#3b82f6";
  context.fillRect(Math.floor(x), Math.floor(y), 1, 1);
}

makeDrawable(byId("clean"), shape, dot, () => setOwn(state.clean), mark);
byId("brush-colour").hidden = shape[0] === 1;

models.forEach((model, i) => {
  const item = document.createElement("li");
  item.style.setProperty("--accent", colours[i]);
  item.textContent = `${models.length > 1 ? `${model.letter}: ` : ""}trained on ${model.trained}, code of ${model.latent} numbers`;
  byId("models").append(item);
  const label = document.createElement("label");
  label.style.setProperty("--accent", colours[i]);
  label.innerHTML = `<input type="radio" name="model"> <span></span>`;
  label.querySelector("span").textContent = `${model.letter}: trained on ${model.trained}`;
  label.firstChild.checked = i === 0;
  label.firstChild.addEventListener("change", () => code.choose(i, noisy, state.sigma, state.clean));
  byId("choice").append(label);
});
byId("choice").hidden = models.length === 1;

for (const method of methods) {
  const item = document.createElement("li");
  item.style.setProperty("--accent", method.colour);
  item.className = method.kind;
  item.textContent = method.name;
  byId("legend").append(item);
}

byId("knowledge").hidden = byId("any-level").hidden = !models.some((model) => model.takesSigma);
byId("one-level").hidden = !models.some((model) => model.sigma !== null);
byId("note").textContent = data.note ?? "";
byId("note").hidden = !data.note;

// --- start ------------------------------------------------------------------------------------------------------------

const start = Math.min(HIGHEST_SIGMA, models[0].sigma ?? 2);
byId("sigma").value = Math.round(200 * place(start));
state.sigma = sigmaOf(byId("sigma").value);
byId("clip").checked = state.clip;
byId("estimated").checked = true; // browsers remember choices over a reload
changed();
addEventListener("resize", update);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", update);
