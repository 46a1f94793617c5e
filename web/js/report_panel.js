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
  const [number, word, title] = speedUp(data)
  root.replaceChildren(
    head({ number, word: data.earlier ? text("report_earlier_run") : word, title, facts, copy: data.text }), ...(data.run ? [quiet(text("report_run", { name: data.run }))] : []),
    ...(data.placed ? [quiet(text("report_placed", { words: data.placed }))] : []),
    ...warningList(data.warnings), bars(data), ...(remark ? [quiet(remark)] : []),
  )
}

/** The speed-up: its number, what it is in a word, and in a sentence. @param {ReportData} data */
function speedUp({ teaches, plain_seconds: plain, seconds: cached, speedup }) {
  if (teaches) return ["–", text("report_calibrating"), text("report_calibrating_tooltip")]
  if (plain) return [`${(plain / cached).toFixed(2)}x`, text("report_measured"), text("report_measured_tooltip")]
  return [`${speedup.toFixed(2)}x`, text("report_estimate"), text("report_estimate_tooltip")]
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
