/** Train Cache Predictor: how the training goes, while it runs and after a reload, and a button that stops it and keeps its work. */

import { api } from "../../../scripts/api.js"
import { app } from "../../../scripts/app.js"
import { element } from "./shared/element.js"
import { panelIn, quiet } from "./shared/panel.js"
import { perNode } from "./shared/per_node.js"
import { text } from "./shared/texts.js"
import { drawChart } from "./training/chart.js"

const NODE = "TokenCacheTrainPredictor"
const EVENT = "tokencache.training"
const ROUTE = "/tokencache/training"
const NOTICEABLE = 0.2 // dB, as tokencache_core/training/verdict.py has it

/**
 * As tokencache_core/training/progress.py has it. loss, held_out: pairs of seconds and value.
 * @typedef {{running: boolean, phase: "preparing" | "training" | "measuring" | "over", stopping: boolean, node: string, workflow: string,
 *   iteration: number, seconds: number, seconds_left: number, loss: [number, number][], held_out: [number, number][], predicted: number,
 *   speedup: number | null, held_out_without: number | null, psnr: number | null, psnr_without: number | null, psnr_random: number | null}} Numbers
 *   held_out_without, psnr_...: measured at the end, at equal compute
 */

/** In one node. */
class TrainingPanel {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root
    /** @type {Numbers | null} */
    this.numbers = null
    this.received = 0
    /** @type {number | undefined} */
    this.timer = undefined
    this.big = element("div", { class: "big" })
    this.word = quiet("")
    this.status = element("div", { role: "status" })
    this.facts = element("div")
    this.button = element("button", { type: "button", title: text("training_stop_tooltip") }, [text("training_stop")])
    this.button.addEventListener("click", () => this.stop())
    this.chart = element("div", { class: "chart", role: "img" })
    this.legend = element("div", { class: "legend" }, [
      element("span", { class: "loss" }, [text("training_loss")]),
      element("span", { class: "held-out", title: text("training_held_out_tooltip") }, [text("training_held_out")]),
    ])
    this.observer = new ResizeObserver(() => this.draw())
    this.observer.observe(this.chart)
    root.replaceChildren(quiet(text("training_empty")))
  }

  /** @param {Numbers} numbers */
  show(numbers) {
    this.numbers = numbers
    this.received = performance.now()
    if (!this.chart.isConnected) {
      const left = element("div", { class: "left" }, [this.big, this.word, this.button])
      const head = element("div", { class: "head" }, [left, element("div", { class: "facts" }, [this.status, this.facts])])
      this.root.replaceChildren(head, this.chart, this.legend)
    }
    const measured = numbers.speedup !== null
    this.big.textContent = `${(numbers.speedup ?? numbers.predicted).toFixed(1)}x`
    this.word.textContent = text(measured ? "training_by_clock" : "training_by_counting")
    this.big.title = text(measured ? "training_by_clock_tooltip" : "training_by_counting_tooltip")
    this.facts.replaceChildren(...factsOf(numbers).map(quiet))
    this.button.hidden = !numbers.running
    this.button.disabled = numbers.stopping || numbers.phase === "measuring"
    this.say()
    this.draw()
    clearInterval(this.timer)
    if (numbers.running) this.timer = setInterval(() => this.say(), 1000)
  }

  /** The line that goes on between two messages. */
  say() {
    if (!this.numbers) return
    const since = this.numbers.phase === "training" ? (performance.now() - this.received) / 1000 : 0
    const words = statusOf(this.numbers, Math.max(0, this.numbers.seconds_left - since))
    if (this.status.textContent !== words) this.status.textContent = words
  }

  draw() {
    if (!this.numbers) return
    const { loss, held_out } = this.numbers
    if (this.numbers.running && !loss.length) this.chart.replaceChildren(quiet(text("training_no_dots")))
    else drawChart(this.chart, [{ name: "loss", points: loss, dots: false }, { name: "held-out", points: held_out, dots: true }])
    this.chart.setAttribute("aria-label", text("training_chart", { count: this.numbers.iteration }))
  }

  async stop() {
    this.button.disabled = true
    const request = { method: "POST", headers: { "Content-Type": "application/json" } }
    const reply = await api.fetchApi(`${ROUTE}/stop`, request).catch(() => null)
    if (reply?.ok) return this.show(await reply.json())
    this.status.textContent = text(reply ? "training_too_late" : "training_no_answer")
    this.button.disabled = Boolean(reply)
  }

  close() {
    clearInterval(this.timer)
    this.observer.disconnect()
  }
}

/** @param {Numbers} numbers @param {number} left seconds */
function statusOf({ phase, stopping, iteration: count, seconds }, left) {
  if (phase === "preparing") return text(stopping ? "training_stopping_first" : "training_preparing")
  if (phase === "measuring") return text("training_measuring", { count })
  if (phase === "over") return endOf(stopping, count, clock(seconds))
  if (stopping) return text(count ? "training_stopping" : "training_stopping_first", { count })
  if (!count && !left) return text("training_first_long")
  return text(count ? "training_going" : "training_first", { count, time: clock(left) })
}

/** @param {boolean} stopped by the button @param {number} count of iterations @param {string} time */
function endOf(stopped, count, time) {
  if (!count) return text("training_nothing")
  if (count === 1) return text(stopped ? "training_stopped_one" : "training_ended_one", { time })
  return text(stopped ? "training_stopped" : "training_ended", { count, time })
}

/** Whether it helped, in words. @param {Numbers} numbers */
function outcomeOf({ psnr, psnr_without: without, psnr_random: random }) {
  if (psnr === null || without === null) return []
  const helps = psnr >= Math.max(without, random ?? 0) + NOTICEABLE
  const values = { psnr: psnr.toFixed(1), without: without.toFixed(1), random: (random ?? 0).toFixed(1) }
  const others = text(random === null ? "training_beside_none" : "training_beside_random", values)
  return [text(helps ? "training_worth_loading" : "training_not_worth_loading", { others })]
}

/** @param {Numbers} numbers */
function factsOf(numbers) {
  const { held_out, held_out_without: without, speedup, predicted } = numbers
  const newest = held_out[held_out.length - 1]
  const error = newest ? [text("training_error_now", { error: newest[1].toPrecision(3) })] : []
  if (without !== null && newest) error[0] = text("training_error_beside", { error: newest[1].toPrecision(3), without: without.toPrecision(3) })
  error.push(...outcomeOf(numbers))
  return speedup === null ? error : [...error, text("training_predicted_now", { speedup: predicted.toFixed(1) })]
}

/** 3725 -> 1:02:05, 100 -> 1:40 @param {number} seconds */
function clock(seconds) {
  const [hours, minutes, rest] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, Math.floor(seconds % 60)]
  /** @param {number} part */
  const two = (part) => String(part).padStart(2, "0")
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`
}

const { kept: panels, nodeCreated } = perNode(
  NODE, (node) => new TrainingPanel(panelIn(node, { label: "training_label", minHeight: 250, size: [340, 720] })), (panel) => panel.close(),
)

/** @param {Numbers | {running: false}} numbers */
function showIn(numbers) {
  if (!("node" in numbers)) return
  const root = app.rootGraph
  for (const [node, panel] of panels) {
    const inRoot = !node.graph || node.graph === root
    const ours = inRoot ? numbers.node === String(node.id) : numbers.node.endsWith(`:${node.id}`)
    if (ours && numbers.workflow === root.id) panel.show(numbers)
  }
}

/** After a reload, or where messages were missed. */
async function ask() {
  if (!panels.size) return
  try {
    const reply = await api.fetchApi(ROUTE)
    if (!reply.ok) return
    /** @type {Numbers | {running: false}} */
    const numbers = await reply.json()
    for (const panel of panels.values()) {
      if (panel.numbers?.running && !numbers.running) panel.show({ ...panel.numbers, running: false, phase: "over" }) // with a server that is no more
    }
    showIn(numbers)
  } catch (error) {
    console.warn("TokenCache: the server does not say how the training goes.", error)
  }
}

app.registerExtension({
  name: "TokenCache.Training",
  setup() {
    api.addEventListener(EVENT, ({ detail }) => showIn(detail))
    api.addEventListener("reconnected", ask)
  },
  nodeCreated,
  afterConfigureGraph: ask,
})
