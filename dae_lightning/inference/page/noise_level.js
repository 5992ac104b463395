// How noisy an image is, by its own testimony, as in model/noise_level.py.

const NORMAL_MEDIAN = 0.6745; // of |N(0, 1)|

// Sigma of the noise in an image, before any clipping; `table` has pairs of sigma and what the details of clipped noise say
function estimateSigma(image, [channels, height, width], table) {
  const details = new Float32Array(channels * (height - 1) * (width - 1));
  let next = 0;
  for (let channel = 0; channel < channels; channel++) {
    for (let row = 0; row < height - 1; row++) {
      for (let column = 0; column < width - 1; column++) {
        const i = (channel * height + row) * width + column;
        details[next++] = Math.abs(image[i] - image[i + 1] - image[i + width] + image[i + width + 1]) / 2;
      }
    }
  }
  details.sort();
  const sigma = details[(details.length - 1) >> 1] / NORMAL_MEDIAN;
  return image.every((pixel) => pixel >= 0 && pixel <= 1) ? beforeClipping(sigma, table) : sigma;
}

function beforeClipping(said, table) {
  const above = table.findIndex(([, details]) => details > said);
  if (above < 0) return table.at(-1)[0];
  const [[low, from], [high, to]] = table.slice(above - 1, above + 1);
  return low + ((high - low) * (said - from)) / (to - from);
}
