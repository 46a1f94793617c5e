/** Plays a run: a picture under what its tokens went through, step by step, with a strip of the steps. */

import { HIGH, LOW, css, drawStage, drawStrip, stepAt } from "./drawing.js"
import { element, playerElements } from "./elements.js"
import { Run, notesOf } from "./run.js"

const STEPS_PER_SECOND = 5
const ALL_BLOCKS = -1

export class Player {
  /** @param {string} label says what is played, for screen readers */
  constructor(label) {
    this.parts = playerElements(label)
    this.element = this.parts.root
    /** @type {Run | null} */
    this.run = null
    this.step = 0
    this.timer = null
    this.asked = 0                      // so that of two runs that are decoded at a time the later one is shown
    /** @type {Map<string, HTMLImageElement>} */
    this.loaded = new Map()
    this.listen()
    this.resized = new ResizeObserver(() => this.draw())
    this.resized.observe(this.parts.stage)
    this.resized.observe(this.parts.strip)
  }

  /** Nothing but a sentence. */
  say(sentence) {
    this.asked += 1
    this.stop()
    this.run = null
    this.note([sentence])
  }

  /**
   * @param {object} data as tokencache_core/player_data.py encodes it
   * @param {string[]} urls of the decoded pictures
   * @param {string} [remark]
   */
  async show(data, urls, remark = "") {
    this.stop()
    const asked = (this.asked += 1)
    if (!data?.steps?.length) {
      this.say([remark, ...notesOf(data)].filter(Boolean).join(" ") || "This run has nothing to show.")
      return
    }
    try {
      const run = await Run.of(data)
      if (asked === this.asked) this.open(run, urls ?? [], remark)
    } catch (error) {
      console.warn("TokenCache: a run cannot be shown.", error)
      if (asked === this.asked) this.say(`This run cannot be shown: ${error.message}.`)
    }
  }

  /** The node is gone. */
  close() {
    this.asked += 1
    this.stop()
    this.resized.disconnect()
  }

  open(run, urls, remark) {
    const { step, block, blockRow, picture, pictureRow, legend, opacityRow } = this.parts
    this.run = run
    this.urls = urls
    this.loaded.clear()
    this.note([remark, ...run.notes].filter(Boolean))
    step.max = String(run.steps.length - 1)
    const numbers = Array.from({ length: run.blocks }, (_, index) => new Option(`${index + 1} of ${run.blocks}`, String(index)))
    block.replaceChildren(new Option("all", String(ALL_BLOCKS)), ...numbers)
    picture.max = String(Math.max(0, Math.max(run.pictures, urls.length) - 1))
    picture.value = "0"
    pictureRow.hidden = picture.max === "0"
    blockRow.hidden = opacityRow.hidden = legend.hidden = !run.grid
    const swatches = [[HIGH, run.legend[1]], [LOW, run.legend[0]]]
    legend.replaceChildren(...swatches.map(([colour, name]) => element("span", { style: `--swatch: ${css(colour)}` }, [name])))
    this.seek(0)
  }

  /** Sentences below, or alone where there is no run. */
  note(sentences) {
    const { controls, notes } = this.parts
    for (const part of controls) part.hidden = !this.run
    notes.classList.toggle("alone", !this.run)
    notes.textContent = sentences.join(" ")
    notes.hidden = !sentences.length
  }

  seek(step) {
    this.step = Math.min(this.run.steps.length - 1, Math.max(0, step))
    this.draw()
  }

  draw() {
    const { run, parts } = this
    if (!run || !parts.stage.clientWidth) return
    const number = Number(parts.picture.value)
    const found = run.values(this.step, Number(parts.block.value), number)
    const text = this.describe(found)
    parts.text.textContent = text
    parts.step.value = String(this.step)
    parts.step.setAttribute("aria-valuetext", text)
    parts.stage.setAttribute("aria-label", run.grid ? `Tokens over the picture: ${text}` : text)
    parts.pictureName.textContent = this.pictureText(number)
    parts.picture.setAttribute("aria-valuetext", parts.pictureName.textContent)
    const picture = this.pictureOf(number)
    parts.stage.setAttribute("aria-busy", String(Boolean(picture && !picture.complete)))
    drawStage(parts.stage, picture?.naturalWidth ? picture : null, found?.values ?? null, run.grid, Number(parts.opacity.value) / 100)
    drawStrip(parts.strip, run, this.step, getComputedStyle(parts.root).color)
  }

  /** One line on the present step. */
  describe(found) {
    const { run, step } = this
    const { kind, seconds, index, compute } = run.steps[step]
    const several = new Set(run.steps.map((each) => each.index)).size < run.steps.length   // solvers that evaluate more than once a step
    const where = several ? `evaluation ${step + 1} of ${run.steps.length} (step ${index + 1})` : `step ${index + 1} of ${run.steps.at(-1).index + 1}`
    const words = [where, kind, `${seconds.toFixed(3)} s`]
    if (found) {
      const share = found.values.reduce((sum, value) => sum + value, 0) / found.values.length
      words.push(run.measure ? `${run.measure.name} ${percent(share * run.measure.full)}` : `${percent(share)} ${run.legend[1]}`)
      if (found.known < found.ran) words.push(`(${found.known} of ${found.ran} blocks known)`)
    } else if (run.grid) words.push("which tokens was not kept")
    else words.push(`${(100 * compute).toFixed(0)} % of the block-tokens computed`)
    return words.join(", ")
  }

  pictureText(number) {
    const { run } = this
    const frames = run.frames.length
    if (frames === 1) return `picture ${number + 1} of ${Math.max(run.pictures, this.urls.length)}`
    const frame = `frame ${(number % frames) + 1} of ${frames}`
    return run.images === 1 ? frame : `video ${Math.floor(number / frames) + 1}, ${frame}`
  }

  /** @returns {HTMLImageElement | null} perhaps still on its way */
  pictureOf(number) {
    const url = this.urls[number]
    if (url && !this.loaded.has(url)) {
      const image = new Image()
      image.onload = () => this.draw()
      image.onerror = () => {
        if (this.run) this.note([...this.run.notes, "The picture is no longer on the server."])
        this.draw()
      }
      image.src = url
      this.loaded.set(url, image)
    }
    return this.loaded.get(url) ?? null
  }

  get playing() {
    return this.timer !== null
  }

  stop() {
    clearInterval(this.timer)
    this.timer = null
    this.showPlaying()
  }

  start() {
    if (this.step >= this.run.steps.length - 1) this.seek(0)
    this.timer = setInterval(() => {
      this.seek(this.step + 1)
      if (this.step >= this.run.steps.length - 1) this.stop()
    }, 1000 / STEPS_PER_SECOND)
    this.showPlaying()
  }

  showPlaying() {
    const { play, text } = this.parts
    play.textContent = this.playing ? "\u275a\u275a" : "\u25b6"
    play.setAttribute("aria-label", this.playing ? "pause" : "play")
    text.setAttribute("aria-live", this.playing ? "off" : "polite")   // else a screen reader would never come to an end
  }

  toggle() {
    if (this.playing) this.stop()
    else if (this.run) this.start()
  }

  listen() {
    const { root, strip, play, step, block, opacity, picture } = this.parts
    root.addEventListener("keydown", (event) => this.onKey(event))
    play.addEventListener("click", () => this.toggle())
    step.addEventListener("input", () => this.goTo(Number(step.value)))
    for (const control of [block, opacity, picture]) control.addEventListener("input", () => this.draw())
    const seek = (event) => this.run && this.goTo(stepAt(this.run, event.offsetX / strip.clientWidth))
    strip.addEventListener("pointerdown", (event) => (strip.setPointerCapture(event.pointerId), seek(event)))
    strip.addEventListener("pointermove", (event) => event.buttons & 1 && seek(event))
    for (const control of [strip, play, step, block, opacity, picture])     // else the node would be dragged
      control.addEventListener("pointerdown", (event) => event.stopPropagation())
  }

  /** By the user's hand: playing ends. */
  goTo(step) {
    this.stop()
    this.seek(step)
  }

  onKey(event) {
    const { block, opacity, picture, play } = this.parts
    if (!this.run || event.ctrlKey || event.metaKey || event.altKey || [block, opacity, picture].includes(event.target)) return
    if (event.target === play && event.key === " ") return event.stopPropagation()     // the button does it
    const moves = { ArrowLeft: this.step - 1, ArrowRight: this.step + 1, Home: 0, End: this.run.steps.length - 1 }
    if (event.key === " ") this.toggle()
    else if (event.key in moves) this.goTo(moves[event.key])
    else return
    event.preventDefault()
    event.stopPropagation()
  }
}

function percent(share) {
  return `${(100 * share).toFixed(share && share < 0.1 ? 1 : 0)} %`
}
