/** Plays a run: a picture under what its tokens went through, step by step, with a strip of the steps. */

import { element } from "../shared/element.js"
import { text } from "../shared/texts.js"
import { HIGH, LOW, css, drawStage, drawStrip, stepAt } from "./drawing.js"
import { playerElements } from "./elements.js"
import { Run, notesOf } from "./run.js"
import { legendTexts, pictureText, stepText } from "./words.js"

const STEPS_PER_SECOND = 5
const ALL_BLOCKS = -1

export class Player {
  /** @param {string} label says what is played, for screen readers */
  constructor(label) {
    this.parts = playerElements(label)
    this.element = this.parts.root
    /** @type {Run | null} */
    this.run = null
    /** @type {string[]} of the run's pictures */
    this.urls = []
    this.step = 0
    /** @type {number | undefined} */
    this.timer = undefined
    this.asked = 0                      // so that of two runs that are decoded at a time the later one is shown
    /** @type {Map<string, HTMLImageElement>} */
    this.loaded = new Map()
    this.listen()
    this.resized = new ResizeObserver(() => this.draw())
    this.resized.observe(this.parts.stage)
    this.resized.observe(this.parts.strip)
  }

  /** Nothing but a sentence. @param {string} sentence */
  say(sentence) {
    this.asked += 1
    this.stop()
    this.run = null
    this.note([sentence])
  }

  /**
   * @param {unknown} data as tokencache_core/reporting/player_data.py encodes it
   * @param {string[]} urls of the decoded pictures
   * @param {string} [remark]
   */
  async show(data, urls, remark = "") {
    this.stop()
    const asked = (this.asked += 1)
    if (!hasSteps(data)) {
      this.say([remark, ...notesOf(data)].filter(Boolean).join(" ") || text("player_nothing"))
      return
    }
    try {
      const run = await Run.of(data)
      if (asked === this.asked) this.open(run, urls, remark)
    } catch (error) {
      console.warn("TokenCache: a run cannot be shown.", error)
      if (asked === this.asked) this.say(text("player_wrong", { reason: error instanceof Error ? error.message : String(error) }))
    }
  }

  /** The node is gone. */
  close() {
    this.asked += 1
    this.stop()
    this.resized.disconnect()
  }

  /** @param {Run} run @param {string[]} urls @param {string} remark */
  open(run, urls, remark) {
    const { step, block, blockRow, picture, pictureRow, legend, opacityRow } = this.parts
    this.run = run
    this.urls = urls
    this.loaded.clear()
    this.note([remark, ...run.notes].filter(Boolean))
    step.max = String(run.steps.length - 1)
    const numbers = Array.from({ length: run.blocks }, (_, index) =>
      new Option(text("player_block_number", { number: index + 1, count: run.blocks }), String(index)))
    block.replaceChildren(new Option(text("player_all_blocks"), String(ALL_BLOCKS)), ...numbers)
    picture.max = String(Math.max(0, Math.max(run.pictures, urls.length) - 1))
    picture.value = "0"
    pictureRow.hidden = picture.max === "0"
    blockRow.hidden = opacityRow.hidden = legend.hidden = !run.grid
    const [low, high] = legendTexts(run)
    legend.replaceChildren(element("span", { style: `--swatch: ${css(HIGH)}` }, [high]), element("span", { style: `--swatch: ${css(LOW)}` }, [low]))
    this.seek(0)
  }

  /** Sentences below, or alone where there is no run. @param {string[]} sentences */
  note(sentences) {
    const { controls, notes } = this.parts
    for (const part of controls) part.hidden = !this.run
    notes.classList.toggle("alone", !this.run)
    notes.textContent = sentences.join(" ")
    notes.hidden = !sentences.length
  }

  /** @param {number} step */
  seek(step) {
    if (!this.run) return
    this.step = Math.min(this.run.steps.length - 1, Math.max(0, step))
    this.draw()
  }

  draw() {
    const { run, parts } = this
    if (!run || !parts.stage.clientWidth) return
    const number = Number(parts.picture.value)
    const found = run.values(this.step, Number(parts.block.value), number)
    const line = stepText(run, this.step, found)
    parts.line.textContent = line
    parts.step.value = String(this.step)
    parts.step.setAttribute("aria-valuetext", line)
    parts.stage.setAttribute("aria-label", run.grid ? text("player_stage", { step: line }) : line)
    parts.pictureName.textContent = pictureText(run, number, Math.max(run.pictures, this.urls.length))
    parts.picture.setAttribute("aria-valuetext", parts.pictureName.textContent)
    const picture = this.pictureOf(number)
    parts.stage.setAttribute("aria-busy", String(Boolean(picture && !picture.complete)))
    drawStage(parts.stage, picture?.naturalWidth ? picture : null, found?.values ?? null, run.grid, Number(parts.opacity.value) / 100)
    drawStrip(parts.strip, run, this.step, getComputedStyle(parts.root).color)
  }

  /** @param {number} number @returns {HTMLImageElement | null} perhaps still on its way */
  pictureOf(number) {
    const url = this.urls[number]
    if (url && !this.loaded.has(url)) {
      const image = new Image()
      image.onload = () => this.draw()
      image.onerror = () => {
        if (this.run) this.note([...this.run.notes, text("player_picture_gone")])
        this.draw()
      }
      image.src = url
      this.loaded.set(url, image)
    }
    return this.loaded.get(url) ?? null
  }

  get playing() {
    return this.timer !== undefined
  }

  stop() {
    clearInterval(this.timer)
    this.timer = undefined
    this.showPlaying()
  }

  /** @param {Run} run the present one */
  start(run) {
    const last = run.steps.length - 1
    if (this.step >= last) this.seek(0)
    this.timer = setInterval(() => {
      this.seek(this.step + 1)
      if (this.step >= last) this.stop()
    }, 1000 / STEPS_PER_SECOND)
    this.showPlaying()
  }

  showPlaying() {
    const { play, line } = this.parts
    play.textContent = this.playing ? "\u275a\u275a" : "\u25b6"
    play.setAttribute("aria-label", text(this.playing ? "player_pause" : "player_play"))
    line.setAttribute("aria-live", this.playing ? "off" : "polite")   // else a screen reader would never come to an end
  }

  toggle() {
    if (this.playing) this.stop()
    else if (this.run) this.start(this.run)
  }

  listen() {
    const { root, strip, play, step, block, opacity, picture } = this.parts
    root.addEventListener("keydown", (event) => this.onKey(event))
    play.addEventListener("click", () => this.toggle())
    step.addEventListener("input", () => this.goTo(Number(step.value)))
    for (const control of [block, opacity, picture]) control.addEventListener("input", () => this.draw())
    /** @param {PointerEvent} event */
    const seek = (event) => {
      if (this.run) this.goTo(stepAt(this.run, event.offsetX / strip.clientWidth))
    }
    strip.addEventListener("pointerdown", (event) => {
      strip.setPointerCapture(event.pointerId)
      seek(event)
    })
    strip.addEventListener("pointermove", (event) => {
      if (event.buttons & 1) seek(event)
    })
    for (const control of [strip, play, step, block, opacity, picture]) {     // else the node would be dragged
      control.addEventListener("pointerdown", (event) => event.stopPropagation())
    }
  }

  /** By the user's hand: playing ends. @param {number} step */
  goTo(step) {
    this.stop()
    this.seek(step)
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    const { block, opacity, picture, play } = this.parts
    const others = /** @type {(EventTarget | null)[]} */ ([block, opacity, picture])
    if (!this.run || event.ctrlKey || event.metaKey || event.altKey || others.includes(event.target)) return
    if (event.target === play && event.key === " ") return event.stopPropagation()     // the button does it
    /** @type {Record<string, number>} */
    const moves = { ArrowLeft: this.step - 1, ArrowRight: this.step + 1, Home: 0, End: this.run.steps.length - 1 }
    if (event.key === " ") this.toggle()
    else if (event.key in moves) this.goTo(moves[event.key])
    else return
    event.preventDefault()
    event.stopPropagation()
  }
}

/** @param {unknown} data @returns {boolean} whether there is anything to decode */
function hasSteps(data) {
  return Boolean(/** @type {{steps?: unknown[]} | null | undefined} */ (data)?.steps?.length)
}
