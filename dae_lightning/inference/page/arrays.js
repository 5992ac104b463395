// What Python has packed: base64 of bytes or of half-precision floats, little-endian.

function bytesOf(packed) {
  return Uint8Array.from(atob(packed.base64), (character) => character.charCodeAt(0));
}

// IEEE 754 half precision: 1 bit of sign, 5 of exponent, 10 of fraction
function halfToFloat(half) {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 31;
  const fraction = half & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

function floatsOf(packed) {
  const halves = new Uint16Array(bytesOf(packed).buffer);
  return Float32Array.from(halves, halfToFloat);
}

// The rows of a packed (N, ...) array of bytes, as images in [0, 1]
function imagesOf(packed) {
  const values = Float32Array.from(bytesOf(packed), (byte) => byte / 255);
  const size = values.length / packed.shape[0];
  return Array.from({ length: packed.shape[0] }, (_, i) => values.subarray(i * size, (i + 1) * size));
}

// matrix (rows, columns) times vector (columns)
function multiply(matrix, vector) {
  const columns = vector.length;
  const result = new Float32Array(matrix.length / columns);
  for (let row = 0, start = 0; row < result.length; row++, start += columns) {
    let sum = 0;
    for (let column = 0; column < columns; column++) sum += matrix[start + column] * vector[column];
    result[row] = sum;
  }
  return result;
}

// the transpose of a matrix (rows, columns) times vector (rows)
function multiplyTransposed(matrix, vector) {
  const columns = matrix.length / vector.length;
  const result = new Float64Array(columns);
  for (let row = 0, start = 0; row < vector.length; row++, start += columns) {
    const weight = vector[row];
    for (let column = 0; column < columns; column++) result[column] += weight * matrix[start + column];
  }
  return Float32Array.from(result);
}
