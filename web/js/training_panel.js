/** Train Cache Predictor: how the training goes, while it runs and after a reload, and a button that stops it and keeps its work. */

import { api } from "../../../scripts/api.js"
import { app } from "../../../scripts/app.js"
import { element } from "./player/elements.js"
import { panelIn, quiet } from "./shared/panel.js"
import { drawChart } from "./training/chart.js"

const NODE = "TokenCacheTrainPredictor"
const EVENT = "tokencache.training"
const ROUTE = "/tokencache/training"
const EMPTY = "Run the workflow: this shows how the training goes, and when it will be done."
const SPEED = {
  predicted: "Sampling with what is trained here: by counting what P-steps compute. After five iterations the clock says it.",
  clock: "Sampling with what has been learned so far, by the clock, on a run that is never trained on.",
}

/**
 * As tokencache_core/training_progress.py has it. loss, held_out: pairs of seconds and value.
 * @typedef {{running: boolean, phase: "preparing" | "training" | "measuring" | "over", stopping: boolean, node: string, workflow: string,
 *   iteration: number, seconds: number, seconds_left: number, loss: [number, number][], held_out: [number, number][], predicted: number,
 *   speedup: number | null}} Numbers
 */

/** In one node. */
class TrainingPanel {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root
    this.numbers = null
    this.big = element("div", { class: "big" })
    this.word = quiet("")
    this.status = element("div", { role: "status" })
    this.facts = element("div")
    this.button = element("button", { type: "button", title: "The iteration under way ends first. The file is written, and the workflow goes on." }, ["Stop and keep"])
    this.button.addEventListener("click", () => this.stop())
    this.chart = element("div", { class: "chart", role: "img" })
    this.legend = element("div", { class: "legend" }, [
      element("span", { class: "loss" }, ["loss"]), element("span", { class: "held-out", title: "how far a run that is never trained on ends from the plain model's" }, ["held-out error"]),
    ])
    this.observer = new ResizeObserver(() => this.draw())
    this.observer.observe(this.chart)
    root.replaceChildren(quiet(EMPTY))
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
    this.big.textContent = `${(measured ? numbers.speedup : numbers.predicted).toFixed(1)}x`
    this.word.textContent = measured ? "by the clock" : "predicted"
    this.big.title = measured ? SPEED.clock : SPEED.predicted
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
    const since = this.numbers.phase === "training" ? (performance.now() - this.received) / 1000 : 0
    const text = statusOf(this.numbers, Math.max(0, this.numbers.seconds_left - since))
    if (this.status.textContent !== text) this.status.textContent = text
  }

  draw() {
    if (!this.numbers) return
    const { loss, held_out } = this.numbers
    drawChart(this.chart, [{ name: "loss", points: loss, dots: false }, { name: "held-out", points: held_out, dots: true }])
    this.chart.setAttribute("aria-label", `loss and held-out error of ${this.numbers.iteration} iterations against time`)
  }

  async stop() {
    this.button.disabled = true
    const reply = await api.fetchApi(`${ROUTE}/stop`, { method: "POST" }).catch(() => null)
    if (reply?.ok) return this.show(await reply.json())
    this.status.textContent = reply ? "nothing is left to stop" : "the server did not answer: it was not stopped"
    this.button.disabled = Boolean(reply)
  }

  close() {
    clearInterval(this.timer)
    this.observer.disconnect()
  }
}

/** @param {Numbers} numbers */
function statusOf({ phase, stopping, iteration, seconds }, left) {
  const done = `iteration ${iteration}`
  if (phase === "preparing") return stopping ? "stopping after the first iteration" : "preparing the model"
  if (phase === "measuring") return `${done}, measuring what was learned`
  if (phase === "over" && !iteration) return "ended before its first iteration: nothing was learned"
  if (phase === "over") return `${stopping ? "stopped" : "ended"} after ${iteration} iteration${iteration === 1 ? "" : "s"}, ${clock(seconds)}`
  if (stopping) return `${done}, stopping after the one under way`
  return iteration ? `${done}, ${clock(left)} left` : `first iteration, ${clock(left)} left`
}

/** @param {Numbers} numbers */
function factsOf({ held_out, speedup, predicted }) {
  const error = held_out.length ? [`held-out error ${held_out.at(-1)[1].toPrecision(3)}`] : []
  return speedup === null ? error : [...error, `predicted ${predicted.toFixed(1)}x`]
}

/** 3725 -> 1:02:05, 100 -> 1:40 */
function clock(seconds) {
  const [hours, minutes, rest] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, Math.floor(seconds % 60)]
  const two = (part) => String(part).padStart(2, "0")
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`
}

/** @type {Map<object, TrainingPanel>} nodes on the page -> their panels */
const panels = new Map()

/** @param {Numbers | {running: false}} numbers */
function showIn(numbers) {
  const root = app.rootGraph ?? app.graph
  for (const [node, panel] of panels) {
    const inRoot = !node.graph || node.graph === root
    const ours = inRoot ? numbers.node === String(node.id) : numbers.node?.endsWith(`:${node.id}`)
    if (ours && numbers.workflow === root.id) panel.show(numbers)
  }
}

/** After a reload, or where messages were missed. */
async function ask() {
  if (!panels.size) return
  try {
    const reply = await api.fetchApi(ROUTE)
    if (!reply.ok) return
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
  nodeCreated(node) {
    if (node.comfyClass !== NODE && node.constructor?.comfyClass !== NODE) return
    const panel = new TrainingPanel(panelIn(node, { label: "Training", minHeight: 250, size: [340, 920] }))
    panels.set(node, panel)
    const { onRemoved } = node
    node.onRemoved = function () {
      onRemoved?.call(this)
      panels.delete(node)
      panel.close()
    }
  },
  afterConfigureGraph: ask,
})
