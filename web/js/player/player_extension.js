/** A player in every node of one kind. The run comes with the node's own output, from the host's socket or its history. */

import { api } from "../../../../scripts/api.js"
import { app } from "../../../../scripts/app.js"
import { lastOutputs, outputName } from "../shared/last_output.js"
import { Player } from "./player.js"

const MIN_HEIGHT = 280

/**
 * @param {object} kind
 * @param {string} kind.name of the extension
 * @param {string} kind.kind the node's id
 * @param {string} kind.label says what is played, for screen readers
 * @param {string} kind.empty a sentence, shown before any run
 * @param {[number, number]} kind.size the least that a new node has
 * @returns {object} an extension, to be registered
 */
export function playerExtension({ name, kind, label, empty, size }) {
  /** @type {Map<object, Player>} nodes on the page -> their players */
  const players = new Map()

  /** Show what the node put out. @param {string} [remark] said beside it */
  function show(node, output, remark) {
    const player = players.get(node)
    if (!player || !output?.tokencache_player) return
    const pictures = pictureUrls(output)
    const identity = pictures.join(" ") || JSON.stringify(output.tokencache_player)   // the host gives the pictures of every run other names
    if (player.identity === identity) return
    player.identity = identity
    player.show(output.tokencache_player[0], pictures, remark)
  }

  function add(node) {
    const player = new Player(label)
    player.say(empty)
    player.element.addEventListener("wheel", zoomThrough, { passive: true })
    const widget = node.addDOMWidget("player", "tokencache_player", player.element, {
      serialize: false, hideOnZoom: false, getMinHeight: () => MIN_HEIGHT,
    })
    widget.serialize = false
    players.set(node, player)
    node.setSize(size.map((least, axis) => Math.max(least, node.size[axis])))
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
    for (const [node, output, remark] of await lastOutputs(waiting, kind)) {
      if (players.has(node) && !players.get(node).identity) show(node, output, remark)
    }
  }

  return {
    name,
    nodeCreated(node) {
      if (node.comfyClass === kind || node.constructor?.comfyClass === kind) add(node)
    },
    afterConfigureGraph() {
      restore().catch((error) => console.warn("TokenCache: no earlier run could be read from the history.", error))
    },
    onNodeOutputsUpdated(outputs) {
      for (const node of players.keys()) show(node, outputs?.[outputName(node)])
    },
  }
}

/** @returns {string[]} addresses of the pictures that the node saved in the host's folder for temporary files */
function pictureUrls(output) {
  const pictures = Array.isArray(output.tokencache_pictures) ? output.tokencache_pictures : []
  return pictures.map((picture) => {
    const { filename = "", subfolder = "", type = "temp" } = picture ?? {}
    return api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type })}`)
  })
}

/** Wheel turns over the player zoom the graph, as over the rest of a node that is drawn on the canvas. */
function zoomThrough(event) {
  if (!globalThis.LiteGraph?.vueNodesMode) app.canvas?.canvas?.dispatchEvent(new WheelEvent("wheel", event))
}
