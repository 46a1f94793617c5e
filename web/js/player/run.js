/** A run as `tokencache_core/player_data.py` encodes it: steps, blocks, and maps of values in 0..1. */

const VERSION = 1

/** @typedef {[number, number, "all" | "none" | number | null]} Group first block, last block, all ones, none, a map's number or not known */
/** @typedef {{index: number, kind: string, seconds: number, sigma: number, compute: number, groups: Group[]}} Step */

/** @returns {string[]} sentences that came with the data, whatever else it holds */
export function notesOf(data) {
  return Array.isArray(data?.notes) ? data.notes.map(String) : []
}

export class Run {
  /** @param {object} data @param {Uint8Array | null} bytes the maps, decompressed */
  constructor(data, bytes) {
    this.blocks = data.blocks
    this.images = data.images
    this.frames = data.frames
    this.legend = data.legend
    /** @type {{name: string, full: number} | null} what values are a share of, where it is not "how many" */
    this.measure = data.measure ?? null
    this.notes = notesOf(data)
    /** @type {Step[]} */
    this.steps = data.steps
    this.bits = data.maps?.form === "bits"
    this.mapCount = data.maps?.count ?? 0
    this.grid = data.grid && bytes ? { frames: data.grid[0], rows: data.grid[1], columns: data.grid[2] } : null
    this.bytes = bytes
    if (this.grid) {
      this.perImage = this.grid.frames * this.grid.rows * this.grid.columns
      this.mapBytes = this.bits ? Math.ceil((this.images * this.perImage) / 8) : this.images * this.perImage
      if (bytes.length !== this.mapCount * this.mapBytes) throw new Error("the maps have another size than their grid")
    }
  }

  /** Decodes and checks what the node put out. @returns {Promise<Run>} */
  static async of(data) {
    if (data?.version !== VERSION) throw new Error("the data is of another version of TokenCache")
    if (!isRun(data)) throw new Error("the data is not a run")
    return new Run(data, data.maps ? await inflated(data.maps.data) : null)
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
   * @returns {{values: Float32Array, known: number, ran: number} | null} values of rows x columns; known, ran: numbers of blocks
   */
  values(stepIndex, block, picture) {
    if (!this.grid) return null
    const groups = this.steps[stepIndex].groups.filter(([first, last]) => block < 0 || (first <= block && block <= last))
    const values = new Float32Array(this.grid.rows * this.grid.columns)
    let known = 0, ran = 0
    for (const [first, last, computed] of groups) {
      const weight = block < 0 ? last - first + 1 : 1
      ran += weight
      if (computed === null || computed === undefined) continue
      known += weight
      this.add(values, weight, computed, picture)
    }
    if (!known) return null
    for (let token = 0; token < values.length; token++) values[token] /= known
    return { values, known, ran }
  }

  /** Adds weight times a group's values of one picture. */
  add(values, weight, computed, picture) {
    if (computed === "none") return
    const image = Math.floor(picture / this.frames.length)
    const frame = this.frames[picture % this.frames.length]
    const start = image * this.perImage + frame * values.length
    for (let token = 0; token < values.length; token++)
      values[token] += weight * (computed === "all" ? 1 : this.valueAt(computed, start + token))
  }

  valueAt(map, token) {
    const start = map * this.mapBytes
    return this.bits ? (this.bytes[start + (token >> 3)] >> (7 - (token & 7))) & 1 : this.bytes[start + token] / 255
  }
}

/** Whether nothing is missing that is read later. */
function isRun({ blocks, images, frames, legend, steps, grid, maps }) {
  const whole = (value, least, most) => Number.isInteger(value) && least <= value && value <= most
  const isGroup = (group) => Array.isArray(group) && whole(group[0], 0, blocks - 1) && whole(group[1], group[0], blocks - 1)
    && (["all", "none", null].includes(group[2]) || whole(group[2], 0, (maps?.count ?? 0) - 1))
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
