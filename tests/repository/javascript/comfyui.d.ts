// What the pack's JavaScript uses of ComfyUI's page, where the package of the frontend's types does not have it.
// The page serves web/ beside its own /scripts, so that "../../../scripts/app.js" is no file of this repository.

declare module "*/scripts/app.js" {
  import { ComfyApp, ComfyExtension } from "@comfyorg/comfyui-frontend-types"

  export { ComfyExtension }
  export const app: ComfyApp

  /** As a node of the pack puts it out, besides its pictures: lists by name. */
  export type NodeOutput = Record<string, unknown[] | undefined>

  /** Nodes that a workflow runs, by their names. */
  export type Prompt = Record<string, { class_type: string; inputs: Record<string, unknown> }>

  type Node = Parameters<NonNullable<ComfyExtension["nodeCreated"]>>[0]

  /** A node with what the frontend's own modules add to LiteGraph's. */
  export type HostNode = Node & {
    comfyClass?: string
    constructor: { comfyClass?: string }
    onExecuted?(this: HostNode, output: NodeOutput): void
    addDOMWidget(name: string, type: string, element: HTMLElement, options: DOMWidgetOptions): { serialize?: boolean }
  }

  interface DOMWidgetOptions {
    serialize: boolean
    hideOnZoom: boolean
    getMinHeight: () => number
  }
}

declare module "*/scripts/api.js" {
  import { ComfyApi } from "@comfyorg/comfyui-frontend-types"

  /** With the events that the pack's own server code sends. */
  export const api: ComfyApi & {
    addEventListener(type: `tokencache.${string}`, listener: (event: CustomEvent) => void): void
  }
}

/** Of the page; vueNodesMode: nodes are drawn as elements, not on the canvas. */
declare var LiteGraph: { vueNodesMode?: boolean } | undefined
