/** TokenCache Report: speed-up, share computed, seconds, memory and warnings at one glance, in the node. */

import { app } from "../../../scripts/app.js"
import { element } from "./player/elements.js"
import { head, panelExtension, quiet, warningList } from "./shared/panel.js"

const EMPTY = "Run the workflow to see what the cache did."
const ESTIMATE = "Estimated by the clock, against this run's own whole steps. Compare with and without TokenCache measures it."

/**
 * As tokencache_core/report_panel.py has it: where there is a notice, there was no run.
 * @typedef {{speedup: number, compute: number, seconds: number, kinds: string, milliseconds: number[], memory: string, warnings: string[],
 *   text: string, notice?: string}} ReportData
 */

/** @param {HTMLElement} root @param {ReportData | null} data @param {string} remark */
function draw(root, data, remark) {
  if (!data || data.notice) {
    root.replaceChildren(quiet(data?.notice ?? EMPTY))
    return
  }
  const facts = [
    element("div", {}, [`${(data.compute * 100).toFixed(1)} % computed`]),
    element("div", {}, [`${data.seconds.toFixed(2)} s`]),
    quiet(`${count(data.kinds, "I")} I-steps, ${count(data.kinds, "P")} P-steps`),
    quiet(`cache: ${data.memory}`),
  ]
  const number = `${data.speedup.toFixed(2)}x`
  root.replaceChildren(
    head({ number, word: "estimate", title: ESTIMATE, facts, text: data.text }), ...warningList(data.warnings), bars(data),
    ...(remark ? [quiet(remark)] : []),
  )
}

/** The evaluations from left to right, as high as they took time. @param {ReportData} data */
function bars({ kinds, milliseconds }) {
  const most = Math.max(...milliseconds)
  const title = `Time of each evaluation, up to ${most.toFixed(0)} ms. Orange: I-steps, which compute everything; blue: P-steps.`
  return element("div", { class: "bars", role: "img", title, "aria-label": title }, milliseconds.map((time, place) =>
    element("div", { class: kinds[place] === "I" ? "whole" : "", style: `height: ${(100 * time) / most}%` })))
}

function count(text, letter) {
  return text.split(letter).length - 1
}

app.registerExtension(panelExtension({
  name: "TokenCache.Report", kind: "TokenCacheReport", key: "tokencache_report", label: "TokenCache report", minHeight: 100, size: [340, 250], draw,
}))
