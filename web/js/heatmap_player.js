/** Cache Heatmap Preview: a player of the run in the node. The run comes with the node's own output, from the host's socket or its history. */

import { api } from "../../../scripts/api.js"
import { app } from "../../../scripts/app.js"
import { HISTORY_RUNS, newestOutput } from "./player/history.js"
import { Player } from "./player/player.js"

const NODE = "TokenCacheHeatmap"
const EMPTY = "Run the workflow to see which tokens each step computes."
const MIN_HEIGHT = 280

/** @type {Map<object, Player>} nodes on the page -> their players */
const players = new Map()

/** @returns {string[]} addresses of the pictures that the node saved in the host's folder for temporary files */
function pictureUrls(output) {
  const pictures = Array.isArray(output.tokencache_pictures) ? output.tokencache_pictures : []
  return pictures.map((picture) => {
    const { filename = "", subfolder = "", type = "temp" } = picture ?? {}
    return api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type })}`)
  })
}

/** Show what the node put out. @param {string} [remark] said beside it */
function show(node, output, remark) {
  const player = players.get(node)
  if (!player || !output?.tokencache_player) return
  const pictures = pictureUrls(output)
  const identity = pictures.join(" ") || Symbol("a run without pictures")   // the host gives those of every run other names
  if (player.identity === identity) return
  player.identity = identity
  player.show(output.tokencache_player[0], pictures, remark)
}

/** As the frontend names a node's output: by its id, after its subgraph's where it lies in one. */
function outputName(node) {
  const root = app.rootGraph ?? app.graph
  return !node.graph || node.graph === root ? String(node.id) : `${node.graph.id}:${node.id}`
}

/** Wheel turns over the player zoom the graph, as over the rest of a node that is drawn on the canvas. */
function zoomThrough(event) {
  if (!globalThis.LiteGraph?.vueNodesMode) app.canvas?.canvas?.dispatchEvent(new WheelEvent("wheel", event))
}

function addPlayer(node) {
  const player = new Player("Cache heatmap player")
  player.say(EMPTY)
  player.element.addEventListener("wheel", zoomThrough, { passive: true })
  const widget = node.addDOMWidget("player", "tokencache_player", player.element, {
    serialize: false, hideOnZoom: false, getMinHeight: () => MIN_HEIGHT,
  })
  widget.serialize = false
  players.set(node, player)
  node.setSize([Math.max(node.size[0], 360), Math.max(node.size[1], 480)])
  const { onExecuted, onRemoved } = node
  node.onExecuted = function (output) {
    onExecuted?.call(this, output)
    show(node, output)
  }
  node.onRemoved = function () {
    onRemoved?.call(this)
    players.delete(node)
    player.close()
  }
}

/** After a reload the page knows no outputs; the host may still know those of this workflow's runs. */
async function restore() {
  const waiting = [...players].filter(([, player]) => !player.identity).map(([node]) => node)
  if (!waiting.length) return
  const reply = await api.fetchApi(`/history?max_items=${HISTORY_RUNS}`)
  const history = await reply.json()
  const root = app.rootGraph ?? app.graph
  const now = await app.graphToPrompt().then((prompt) => prompt.output, () => null)   // a graph that lacks nodes has none
  for (const node of waiting) {
    const found = newestOutput(history, { id: String(node.id), inRoot: node.graph === root, kind: NODE, workflow: root.id, prompt: now })
    if (found && players.has(node) && !players.get(node).identity)
      show(node, found.output, found.same ? "" : "From this workflow's newest run, which had other settings.")
  }
}

app.registerExtension({
  name: "TokenCache.HeatmapPlayer",
  nodeCreated(node) {
    if (node.comfyClass === NODE || node.constructor?.comfyClass === NODE) addPlayer(node)
  },
  afterConfigureGraph() {
    restore().catch((error) => console.warn("TokenCache: no earlier run could be read from the history.", error))
  },
  onNodeOutputsUpdated(outputs) {
    for (const node of players.keys()) show(node, outputs?.[outputName(node)])
  },
})
