// The code as bars, one unit's weights enlarged, and the sheet of all filters.

const MOST_FILTERS = 256;
const FILTERS_A_ROW = 16;

// `colours` are CSS colours of the models
function makeCodeView(shape, models, colours) {
  const [bars, filters] = ["bars", "filters"].map((id) => document.getElementById(id));
  let model = models[0];
  let unit = null; // chosen once there is a code
  let codes = null; // of the noisy and of the clean picture

  const shown = () => Math.min(model.latent, MOST_FILTERS);

  function drawBars() {
    const scale = devicePixelRatio;
    const { clientWidth: width, clientHeight: height } = bars;
    bars.width = width * scale;
    bars.height = height * scale;
    const context = bars.getContext("2d");
    context.scale(scale, scale);
    const largest = Math.max(1e-12, ...codes.noisy.map(Math.abs), ...codes.clean.map(Math.abs));
    const step = width / model.latent;
    const y = (answer) => (height / 2) * (1 - (0.95 * answer) / largest);
    const [colour, ink] = [bars, document.body].map((one) => getComputedStyle(one).color); // a canvas knows no var()
    context.fillStyle = ink;
    context.globalAlpha = 0.15;
    context.fillRect(unit * step - 2, 0, step + 4, height);
    for (let i = 0; i < model.latent; i++) {
      context.globalAlpha = i === unit ? 1 : 0.75;
      context.fillStyle = colour;
      context.fillRect(i * step, Math.min(y(0), y(codes.noisy[i])), Math.max(step * 0.8, 0.5), Math.abs(y(codes.noisy[i]) - y(0)));
      context.globalAlpha = 0.9;
      context.fillStyle = ink;
      context.fillRect(i * step, y(codes.clean[i]) - 0.75, Math.max(step * 0.8, 0.5), 1.5);
    }
  }

  function select(next) {
    unit = Math.min(model.latent - 1, Math.max(0, next));
    const [noisy, clean] = [codes.noisy[unit], codes.clean[unit]].map((answer) => answer.toFixed(2));
    const text = `Unit ${unit + 1} of ${model.latent}: ${noisy} on the noisy picture, ${clean} on the clean one`;
    document.getElementById("unit-shown").textContent = text;
    bars.setAttribute("aria-valuemax", model.latent);
    bars.setAttribute("aria-valuenow", unit + 1);
    bars.setAttribute("aria-valuetext", text);
    for (const [id, weights] of [["looks-for", model.filter(unit)], ["paints", model.column(unit)]]) {
      const canvas = document.getElementById(id);
      show(canvas, weightsAsImage(weights), shape);
      canvas.setAttribute("aria-label", `Unit ${unit + 1}: what it ${id.replace("-", " ")}`);
    }
    drawBars();
  }

  function choose(index) {
    model = models[index];
    bars.style.color = colours[index];
    const all = Array.from({ length: shown() }, (_, i) => weightsAsImage(model.filter(i)));
    showSheet(filters, all, FILTERS_A_ROW, shape);
  }

  bars.addEventListener("pointermove", (event) => select(Math.floor((event.offsetX / bars.clientWidth) * model.latent)));
  bars.addEventListener("pointerdown", (event) => select(Math.floor((event.offsetX / bars.clientWidth) * model.latent)));
  bars.addEventListener("keydown", (event) => {
    const next = {
      ...{ ArrowLeft: unit - 1, ArrowDown: unit - 1, ArrowRight: unit + 1, ArrowUp: unit + 1 },
      ...{ PageDown: unit - 16, PageUp: unit + 16, Home: 0, End: model.latent - 1 },
    }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    select(next);
  });
  filters.addEventListener("pointermove", (event) => {
    const rows = Math.ceil(shown() / FILTERS_A_ROW);
    const column = Math.floor((event.offsetX / filters.clientWidth) * FILTERS_A_ROW);
    const row = Math.floor((event.offsetY / filters.clientHeight) * rows);
    if (row * FILTERS_A_ROW + column < shown()) select(row * FILTERS_A_ROW + column);
  });
  choose(0);

  return {
    choose(index, ...pictures) {
      choose(index);
      this.update(...pictures);
    },
    update(noisy, sigma, clean) {
      codes = { noisy: model.encode(noisy, sigma), clean: model.encode(clean, 0) };
      unit ??= codes.noisy.indexOf(Math.max(...codes.noisy)); // at first the one that answers most
      select(unit);
    },
  };
}
