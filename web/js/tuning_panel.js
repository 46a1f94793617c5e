/** Tune TokenCache: its trials while it runs, and what it found beside the default settings. */

/** @import { Goal, Trial } from "./tuning/chart.js" */
/** @import { Key } from "./shared/texts.js" */

import { api } from "../../../scripts/api.js"
import { app } from "../../../scripts/app.js"
import { element } from "./shared/element.js"
import { panelIn, quiet } from "./shared/panel.js"
import { perNode } from "./shared/per_node.js"
import { text } from "./shared/texts.js"
import { drawTrials } from "./tuning/chart.js"

const NODE = "TokenCacheTuning"
const EVENT = "tokencache.tuning"
const ROUTE = "/tokencache/tuning"
/** @type {[string, Key][]} */
const LEGEND = [["best", "tuning_best"], ["default", "tuning_default"], ["goal", "tuning_goal"]]

/**
 * As tokencache_core/tuning/progress.py has it. best, default: places in trials; measured: speed-up and likeness on other samples.
 * @typedef {{running: boolean, node: string, workflow: string, phase: "preparing" | "searching" | "placing" | "measuring", trials: Trial[],
 *   goal?: Goal, steps: number, seconds: number, minutes: number, best: number | null, default: number | null,
 *   measured: [number, number] | null, measured_default: [number, number] | null}} Numbers
 */

/** In one node. */
class TuningPanel {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root
    /** @type {Numbers | null} */
    this.numbers = null
    this.status = element("div", { role: "status" })
    this.found = element("div")
    this.chart = element("div", { class: "chart trials", role: "img" })
    this.legend = element("div", { class: "legend" }, LEGEND.map(([kind, word]) => element("span", { class: kind }, [text(word)])))
    this.observer = new ResizeObserver(() => this.draw())
    this.observer.observe(this.chart)
    root.replaceChildren(quiet(text("tuning_empty")))
  }

  /** @param {Numbers} numbers */
  show(numbers) {
    this.numbers = numbers
    if (!this.chart.isConnected) this.root.replaceChildren(this.status, this.found, this.chart, this.legend)
    this.status.textContent = statusOf(numbers)
    this.found.replaceChildren(...foundLines(numbers).map(quiet))
    this.draw()
  }

  draw() {
    if (!this.numbers?.goal) return
    drawTrials(this.chart, { ...this.numbers, goal: this.numbers.goal })
    this.chart.setAttribute("aria-label", text("tuning_chart", { count: this.numbers.trials.length }))
  }
}

/** @param {Numbers} numbers */
function statusOf({ running, phase, trials, goal, seconds, minutes }) {
  const values = { count: trials.length, goal: goal ? goalOf(goal) : "", seconds: Math.round(seconds ?? 0), minutes: minutes ?? 0 }
  if (!running) return text("tuning_over", values)
  if (phase === "preparing") return text("tuning_preparing")
  return text(phase === "searching" ? "tuning_searching" : phase === "placing" ? "tuning_placing" : "tuning_measuring", values)
}

/** The best, beside the default: on other samples as soon as that is measured. @param {Numbers} numbers */
function foundLines({ goal, trials, best, default: ours, measured, measured_default: measuredOurs, steps }) {
  if (!goal) return []
  /** @param {number | null} index @param {[number, number] | null} found @returns {string | null} */
  const words = (index, found) => {
    const trial = index === null ? null : trials[index]
    if (!trial) return null
    const [speedup, likeness] = found ?? [trial.speedup, trial.likeness]
    return text("tuning_result", { i_steps: trial.i_steps, steps, speedup: speedup.toFixed(2), likeness: likenessOf(goal, likeness) })
  }
  const [bestWords, oursWords] = [words(best, measured), words(ours, measuredOurs)]
  const lines = [bestWords ? text("tuning_best_is", { result: bestWords }) : text("tuning_none_yet")]
  lines.push(oursWords ? text("tuning_default_is", { result: oursWords }) : text("tuning_default_misses"))
  if (measured) lines.push(text("tuning_other_samples"))
  return lines
}

/** @param {Goal} goal @param {number} value */
function likenessOf({ kind }, value) {
  return kind === "ssim" ? `SSIM ${value.toFixed(4)}` : `${value.toFixed(1)} dB`
}

/** @param {Goal} goal */
function goalOf(goal) {
  return goal.kind === "speed-up" ? `${goal.value}x` : likenessOf(goal, goal.value)
}

const { kept: panels, nodeCreated } = perNode(
  NODE, (node) => new TuningPanel(panelIn(node, { label: "tuning_label", minHeight: 240, size: [340, 760] })), (panel) => panel.observer.disconnect(),
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
  const reply = await api.fetchApi(ROUTE).catch(() => null)
  if (reply?.ok) showIn(await reply.json())
}

app.registerExtension({
  name: "TokenCache.Tuning",
  setup() {
    api.addEventListener(EVENT, ({ detail }) => showIn(detail))
    api.addEventListener("reconnected", ask)
  },
  nodeCreated,
  afterConfigureGraph: ask,
})
