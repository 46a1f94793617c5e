/** A run as `tokencache_core/reporting/player_data.py` encodes it: steps, blocks, and maps of values in 0..1. */

import { text } from "../shared/texts.js"

const VERSION = 1

/**
 * @typedef {[number, number, "all" | "none" | number | null]} Group first block, last block, all ones, none, a map's number or not known
 * @typedef {{index: number, kind: string, seconds: number, sigma: number, compute: number, groups: Group[]}} Step
 * @typedef {{frames: number, rows: number, columns: number}} Grid of tokens
 * @typedef {{version: number, blocks: number, images: number, frames: number[], legend: [string, string], grid: [number, number, number] | null,
 *   measure?: {name: string, full: number} | null, steps: Step[], maps: {form: "bits" | "bytes", count: number, data: string} | null,
 *   notes: string[]}} RunData
 * @typedef {{values: Float32Array, known: number, ran: number}} Found values of rows x columns; known, ran: numbers of blocks
 */

/** Sentences that came with the data, whatever else it holds. @param {unknown} data @returns {string[]} */
export function notesOf(data) {
  const { notes } = /** @type {Partial<RunData>} */ (data ?? {})
  return Array.isArray(notes) ? notes.map(String) : []
}

/** The maps of a run's tokens. */
class Maps {
  /** @param {RunData} data @param {Uint8Array} bytes decompressed */
  constructor({ grid, images, maps }, bytes) {
    const [frames, rows, columns] = grid ?? [0, 0, 0]
    this.grid = { frames, rows, columns }
    this.perImage = frames * rows * columns
    this.bits = maps?.form === "bits"
    this.mapBytes = this.bits ? Math.ceil((images * this.perImage) / 8) : images * this.perImage
    this.bytes = bytes
    if (bytes.length !== (maps?.count ?? 0) * this.mapBytes) throw new Error(text("player_other_size"))
  }

  /** @param {number} map its number @param {number} token among those of all images */
  valueAt(map, token) {
    const start = map * this.mapBytes
    return this.bits ? (this.bytes[start + (token >> 3)] >> (7 - (token & 7))) & 1 : this.bytes[start + token] / 255
  }
}

export class Run {
  /** @param {RunData} data @param {Uint8Array | null} bytes the maps, decompressed */
  constructor(data, bytes) {
    this.blocks = data.blocks
    this.images = data.images
    this.frames = data.frames
    this.legend = data.legend
    this.measure = data.measure ?? null // what values are a share of, where it is not "how many"
    this.notes = notesOf(data)
    this.steps = data.steps
    this.maps = data.grid && bytes ? new Maps(data, bytes) : null
    this.grid = this.maps?.grid ?? null
  }

  /** Decodes and checks what the node put out. @param {unknown} data @returns {Promise<Run>} */
  static async of(data) {
    const run = /** @type {RunData} */ (data)
    if (run?.version !== VERSION) throw new Error(text("player_other_version"))
    if (!isRun(run)) throw new Error(text("player_no_run"))
    return new Run(run, run.maps ? await inflated(run.maps.data) : null)
  }

  get pictures() {
    return this.images * this.frames.length
  }

  /** The longest step that is no outlier: first steps often wait for a model to be loaded or compiled. */
  get usualSeconds() {
    const sorted = this.steps.map((step) => step.seconds).sort((a, b) => a - b)
    const longest = sorted[sorted.length - 1] || 1
    const next = sorted[sorted.length - 2] || longest
    return longest > 2 * next ? next : longest
  }

  /**
   * What `block` did to the tokens of a picture, or, block -1, the mean of all blocks that are known.
   * @param {number} stepIndex @param {number} block @param {number} picture
   * @returns {Found | null}
   */
  values(stepIndex, block, picture) {
    if (!this.maps) return null
    const groups = this.steps[stepIndex].groups.filter(([first, last]) => block < 0 || (first <= block && block <= last))
    const values = new Float32Array(this.maps.grid.rows * this.maps.grid.columns)
    let known = 0, ran = 0
    for (const [first, last, computed] of groups) {
      const weight = block < 0 ? last - first + 1 : 1
      ran += weight
      if (computed === null || computed === undefined) continue
      known += weight
      this.add(values, weight, computed, picture, this.maps)
    }
    if (!known) return null
    for (let token = 0; token < values.length; token++) values[token] /= known
    return { values, known, ran }
  }

  /**
   * Adds weight times a group's values of one picture.
   * @param {Float32Array} values @param {number} weight @param {"all" | "none" | number} computed @param {number} picture @param {Maps} maps
   */
  add(values, weight, computed, picture, maps) {
    if (computed === "none") return
    const image = Math.floor(picture / this.frames.length)
    const frame = this.frames[picture % this.frames.length]
    const start = image * maps.perImage + frame * values.length
    for (let token = 0; token < values.length; token++) {
      values[token] += weight * (computed === "all" ? 1 : maps.valueAt(computed, start + token))
    }
  }
}

/** Whether nothing is missing that is read later. @param {RunData} data */
function isRun({ blocks, images, frames, legend, steps, grid, maps }) {
  /** @param {unknown} value @param {number} least @param {number} most */
  const whole = (value, least, most) => typeof value === "number" && Number.isInteger(value) && least <= value && value <= most
  /** @param {Group} group */
  const isGroup = (group) => Array.isArray(group) && whole(group[0], 0, blocks - 1) && whole(group[1], group[0], blocks - 1)
    && (group[2] === "all" || group[2] === "none" || group[2] === null || whole(group[2], 0, (maps?.count ?? 0) - 1))
  /** @param {Step} step */
  const isStep = (step) => Number.isFinite(step?.seconds) && Number.isFinite(step.compute) && Array.isArray(step.groups) && step.groups.every(isGroup)
  const isGrid = grid === null || (Array.isArray(grid) && grid.length === 3 && grid.every((side) => whole(side, 1, 1e6)))
  return whole(blocks, 1, 1e4) && whole(images, 1, 1e5) && Array.isArray(legend) && legend.length === 2 && isGrid
    && Array.isArray(frames) && frames.length > 0 && frames.every((frame) => whole(frame, 0, grid ? grid[0] - 1 : 0))
    && Array.isArray(steps) && steps.length > 0 && steps.every(isStep)
}

/** @param {string} base64 of a zlib stream @returns {Promise<Uint8Array>} */
async function inflated(base64) {
  const packed = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"))
  return new Uint8Array(await new Response(stream).arrayBuffer())
}
