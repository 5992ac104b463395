// How noisy an image is, by its own testimony, as in model/noise_level.py.

const NORMAL_MEDIAN = 0.6745; // of |N(0, 1)|
const EDGE = 2;
const DETAIL = 2.5;
const ROUNDS = 4;
const TRUNCATED = 0.911256; // variance of N(0, 1) between -DETAIL and DETAIL

// Sigma of the noise in an image, before any clipping; `table` has pairs of sigma and what the details of clipped noise say
function estimateSigma(image, [channels, height, width], table) {
  const blocks = channels * (height - 1) * (width - 1);
  const [diagonal, flatness] = [new Float32Array(blocks), new Float32Array(blocks)];
  let next = 0;
  for (let channel = 0; channel < channels; channel++) {
    for (let row = 0; row < height - 1; row++) {
      for (let column = 0; column < width - 1; column++) {
        const i = (channel * height + row) * width + column;
        const [a, b, c, d] = [image[i], image[i + 1], image[i + width], image[i + width + 1]];
        const edge = Math.max(Math.abs(a - b + c - d), Math.abs(a + b - c - d)) / 2;
        diagonal[next] = Math.abs(a - b - c + d) / 2;
        flatness[next] = Math.max(edge / EDGE, diagonal[next] / DETAIL);
        next++;
      }
    }
  }
  const first = diagonal.slice().sort()[(blocks - 1) >> 1] / NORMAL_MEDIAN;
  if (image.every((pixel) => pixel >= 0 && pixel <= 1)) return beforeClipping(first, table);
  let sigma = first;
  for (let round = 0; round < ROUNDS; round++) {
    const flat = diagonal.filter((_, block) => flatness[block] < sigma);
    const power = flat.reduce((sum, detail) => sum + detail * detail, 0);
    sigma = Math.sqrt(power / (Math.max(flat.length, 1) * TRUNCATED));
  }
  return sigma;
}

function beforeClipping(said, table) {
  const above = table.findIndex(([, details]) => details > said);
  if (above < 0) return table.at(-1)[0];
  const [[low, from], [high, to]] = table.slice(above - 1, above + 1);
  return low + ((high - low) * (said - from)) / (to - from);
}
