// Images on canvases, and pictures and strokes made into images. A shape is [channels, height, width].

function show(canvas, image, [channels, height, width]) {
  canvas.width = width;
  canvas.height = height;
  const pixels = new ImageData(width, height);
  const plane = height * width;
  for (let i = 0; i < plane; i++) {
    for (let rgb = 0; rgb < 3; rgb++) pixels.data[4 * i + rgb] = 255 * image[channels === 3 ? rgb * plane + i : i];
    pixels.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

// Weights of either sign as an image: 0 is grey, the largest is white or black
function weightsAsImage(weights) {
  const largest = weights.reduce((most, weight) => Math.max(most, Math.abs(weight)), 1e-12);
  return weights.map((weight) => 0.5 + weight / largest / 2);
}

// Many images side by side, `columns` in a row, a pixel apart
function showSheet(canvas, images, columns, [channels, height, width]) {
  const tile = document.createElement("canvas");
  canvas.width = columns * (width + 1) - 1;
  canvas.height = Math.ceil(images.length / columns) * (height + 1) - 1;
  const context = canvas.getContext("2d");
  images.forEach((image, i) => {
    show(tile, image, [channels, height, width]);
    context.drawImage(tile, (i % columns) * (width + 1), Math.floor(i / columns) * (height + 1));
  });
}

const MOST_BYTES = 32 * 2 ** 20;

// The middle of a picture file, as an image of the shape; throws an Error that says what is wrong
async function readPicture(file, [channels, height, width]) {
  if (file.size > MOST_BYTES) throw new Error(`${file.name}: larger than 32 MB; give a smaller picture`);
  const bitmap = await createImageBitmap(file).catch(() => {
    throw new Error(`${file.name}: not a picture that this browser can read`);
  });
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  context.fillStyle = "white"; // what is transparent lies on white, as in dae-denoise
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  const scale = Math.min(bitmap.width / width, bitmap.height / height);
  const [w, h] = [width * scale, height * scale];
  context.drawImage(bitmap, (bitmap.width - w) / 2, (bitmap.height - h) / 2, w, h, 0, 0, width, height);
  bitmap.close();
  const { data } = context.getImageData(0, 0, width, height);
  const plane = height * width;
  const grey = (i) => 0.299 * data[4 * i] + 0.587 * data[4 * i + 1] + 0.114 * data[4 * i + 2]; // as Pillow's L
  const value = (i) => (channels === 3 ? data[4 * (i % plane) + Math.floor(i / plane)] : Math.round(grey(i)));
  return Float32Array.from({ length: channels * plane }, (_, i) => value(i) / 255);
}

// Paint a soft dot of a colour ([r, g, b] in [0, 1]) onto an image, at a place in pixels
function paintDot(image, x, y, colour, [channels, height, width]) {
  const radius = Math.max(1, Math.min(height, width) / 20);
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const distance = Math.hypot(column + 0.5 - x, row + 0.5 - y);
      const share = clipped(radius + 0.5 - distance);
      for (let channel = 0; channel < channels; channel++) {
        const i = (channel * height + row) * width + column;
        image[i] += share * (colour[channel] - image[i]);
      }
    }
  }
}

// Let a canvas be drawn on, by pointer, or by arrow keys and the space bar: `dot` paints at a place in pixels, `drawn`
// follows a stroke of dots, and `mark` shows the place that the keys have reached
function makeDrawable(canvas, shape, dot, drawn, mark) {
  const [, height, width] = shape;
  const cursor = { x: width / 2, y: height / 2 };
  let last = null;

  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return {
      x: ((event.clientX - box.left) / box.width) * width,
      y: ((event.clientY - box.top) / box.height) * height,
    };
  };
  const stroke = (from, to) => {
    const steps = Math.max(1, Math.ceil(Math.hypot(to.x - from.x, to.y - from.y)));
    for (let i = 1; i <= steps; i++) {
      dot(from.x + ((to.x - from.x) * i) / steps, from.y + ((to.y - from.y) * i) / steps);
    }
    drawn();
  };

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    last = place(event);
    stroke(last, last);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!last) return;
    const next = place(event);
    stroke(last, next);
    last = next;
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (last = null));

  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  let painting = false;
  canvas.addEventListener("keydown", (event) => {
    if (event.key === " ") painting = true;
    else if (moves[event.key]) {
      cursor.x = Math.min(width - 0.5, Math.max(0.5, cursor.x + moves[event.key][0]));
      cursor.y = Math.min(height - 0.5, Math.max(0.5, cursor.y + moves[event.key][1]));
    } else return;
    event.preventDefault();
    if (painting) stroke(cursor, cursor);
    mark(cursor.x, cursor.y);
  });
  canvas.addEventListener("keyup", (event) => {
    if (event.key === " ") painting = false;
  });
}
