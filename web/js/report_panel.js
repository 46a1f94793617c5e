/** TokenCache Report: speed-up, share computed, seconds, memory and warnings at one glance, in the node. */

import { app } from "../../../scripts/app.js"
import { element } from "./shared/element.js"
import { head, panelExtension, quiet, warningList } from "./shared/panel.js"
import { text } from "./shared/texts.js"

/**
 * As tokencache_core/reporting/panel.py has it: where there is a notice, there was no run.
 * @typedef {{speedup: number, compute: number, seconds: number, plain_seconds: number, run: string, earlier: boolean, teaches: boolean,
 *   kinds: string, milliseconds: number[], memory: string, placed: string, warnings: string[], text: string, notice?: string}} ReportData
 */

/** @param {HTMLElement} root @param {ReportData | null} data @param {string} remark */
function draw(root, data, remark) {
  if (!data || data.notice) {
    root.replaceChildren(quiet(data?.notice ?? text("report_empty")))
    return
  }
  const facts = [
    element("div", {}, [text("report_computed", { percent: (data.compute * 100).toFixed(1) })]),
    element("div", {}, [seconds(data)]),
    quiet(text("report_steps", { whole: count(data.kinds, "I"), partial: count(data.kinds, "P") })),
    quiet(text("report_memory", { memory: data.memory })),
  ]
  const plain = data.plain_seconds
  const [kind, explanation] = speedUpIs(data)
  const word = text(data.earlier ? "report_earlier_run" : kind)
  const number = data.teaches ? "–" : `${(plain ? plain / data.seconds : data.speedup).toFixed(2)}x`
  const title = text(explanation)
  root.replaceChildren(
    head({ number, word, title, facts, copy: data.text }), ...(data.run ? [quiet(text("report_run", { name: data.run }))] : []),
    ...(data.placed ? [quiet(text("report_placed", { words: data.placed }))] : []),
    ...warningList(data.warnings), bars(data), ...(remark ? [quiet(remark)] : []),
  )
}

/** What the speed-up is, in a word and in a sentence. @param {ReportData} data @returns {["report_calibrating" | "report_measured" | "report_estimate", "report_calibrating_tooltip" | "report_measured_tooltip" | "report_estimate_tooltip"]} */
function speedUpIs({ teaches, plain_seconds: plain }) {
  if (teaches) return ["report_calibrating", "report_calibrating_tooltip"]
  return plain ? ["report_measured", "report_measured_tooltip"] : ["report_estimate", "report_estimate_tooltip"]
}

/** Beside those of the same run without the cache, where it was run, too. @param {ReportData} data */
function seconds({ seconds: cached, plain_seconds: plain }) {
  return plain ? text("report_seconds_of_both", { seconds: cached.toFixed(2), plain: plain.toFixed(2) }) : `${cached.toFixed(2)} s`
}

/** The evaluations from left to right, as high as they took time. @param {ReportData} data */
function bars({ kinds, milliseconds }) {
  const most = Math.max(...milliseconds)
  const title = text("report_bars", { milliseconds: most.toFixed(0) })
  return element("div", { class: "bars", role: "img", title, "aria-label": title }, milliseconds.map((time, place) =>
    element("div", { class: kinds[place] === "I" ? "whole" : "", style: `height: ${(100 * time) / most}%` })))
}

/** @param {string} kinds @param {string} kind */
function count(kinds, kind) {
  return kinds.split(kind).length - 1
}

app.registerExtension(panelExtension({
  name: "TokenCache.Report", kind: "TokenCacheReport", key: "tokencache_report", label: "report_label", minHeight: 100, size: [340, 300], draw,
}))
