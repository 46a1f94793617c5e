/** What the player draws on its canvases. */

/** @import { Grid, Run } from "./run.js" */
/** @typedef {[number, number, number]} Colour */

// of the palette of Okabe and Ito, legible with any colour vision
/** @type {Colour} */
export const LOW = [0, 114, 178]        // blue
/** @type {Colour} */
export const HIGH = [230, 159, 0]       // orange
/** @type {Record<string, string>} */
const KINDS = { I: "#e69f00", P: "#56b4e9" }
const OTHER = "#999999"

/** @param {Colour} colour */
export const css = ([red, green, blue]) => `rgb(${red} ${green} ${blue})`

/** @param {HTMLCanvasElement} canvas */
function contextOf(canvas) {
  return /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d")) // null only for a canvas that was drawn on in another way
}

/** Gives the canvas as many pixels as the screen shows of it. @param {HTMLCanvasElement} canvas @returns {CanvasRenderingContext2D} in CSS pixels */
function fitted(canvas) {
  const ratio = globalThis.devicePixelRatio || 1
  const [width, height] = [Math.max(1, canvas.clientWidth), Math.max(1, canvas.clientHeight)]
  canvas.width = Math.round(width * ratio)
  canvas.height = Math.round(height * ratio)
  const context = contextOf(canvas)
  context.setTransform(canvas.width / width, 0, 0, canvas.height / height, 0, 0)
  return context
}

/**
 * The picture, as large as fits, under the values of its tokens.
 * @param {HTMLCanvasElement} canvas
 * @param {HTMLImageElement | null} picture
 * @param {Float32Array | null} values of rows x columns
 * @param {Grid | null} grid
 * @param {number} opacity of the values, 0..1
 */
export function drawStage(canvas, picture, values, grid, opacity) {
  const context = fitted(canvas)
  const [width, height] = [canvas.clientWidth, canvas.clientHeight]
  context.clearRect(0, 0, width, height)
  const [ownWidth, ownHeight] = picture ? [picture.naturalWidth, picture.naturalHeight] : grid ? [grid.columns, grid.rows] : [1, 1]
  const scale = Math.min(width / ownWidth, height / ownHeight)
  /** @type {[number, number, number, number]} */
  const box = [(width - ownWidth * scale) / 2, (height - ownHeight * scale) / 2, ownWidth * scale, ownHeight * scale]
  if (picture) {
    context.imageSmoothingEnabled = scale < 2    // the pixels of small pictures stay sharp, as the tokens do
    context.drawImage(picture, ...box)
  }
  if (!values || !grid) return
  context.imageSmoothingEnabled = false
  context.globalAlpha = picture ? opacity : 1
  context.drawImage(coloured(values, grid), ...box)
  context.globalAlpha = 1
}

/** One pixel a token. @param {Float32Array} values @param {Grid} grid */
function coloured(values, { rows, columns }) {
  const small = document.createElement("canvas")
  small.width = columns
  small.height = rows
  const context = contextOf(small)
  const image = context.createImageData(columns, rows)
  values.forEach((value, token) => {
    const share = Math.min(1, Math.max(0, value))
    for (let channel = 0; channel < 3; channel++) image.data[4 * token + channel] = Math.round(LOW[channel] + share * (HIGH[channel] - LOW[channel]))
    image.data[4 * token + 3] = 255
  })
  context.putImageData(image, 0, 0)
  return small
}

/**
 * A bar a step, as high as it took seconds, in the colour of its kind and with its letter where there is room.
 * @param {HTMLCanvasElement} canvas
 * @param {Run} run
 * @param {number} current step
 * @param {string} ink
 */
export function drawStrip(canvas, run, current, ink) {
  const context = fitted(canvas)
  const [width, height] = [canvas.clientWidth, canvas.clientHeight]
  context.clearRect(0, 0, width, height)
  const each = width / run.steps.length
  const gap = each > 4 ? 1 : 0
  const lettered = each >= 8
  const floor = height - (lettered ? 12 : 3)
  const top = run.usualSeconds
  context.font = "10px sans-serif"
  context.textAlign = "center"
  run.steps.forEach((step, index) => {
    const tall = Math.max(2, Math.min(1, step.seconds / top) * (floor - 2))
    const x = index * each
    context.fillStyle = KINDS[step.kind] ?? OTHER
    context.globalAlpha = index === current ? 1 : 0.65
    context.fillRect(x + gap / 2, floor - tall, each - gap, tall)
    if (step.seconds > top) context.clearRect(x, 4, each, 2)    // a cut: longer than is drawn
    context.globalAlpha = 1
    context.fillStyle = ink
    if (lettered) context.fillText(step.kind, x + each / 2, height - 2)
    if (index === current) context.fillRect(x + gap / 2, floor, Math.max(1, each - gap), 2)
  })
}

/** The step under a place on the strip. @param {Run} run @param {number} place 0..1 of its width */
export function stepAt(run, place) {
  return Math.min(run.steps.length - 1, Math.max(0, Math.floor(place * run.steps.length)))
}
