/** Parts of charts. */

const SVG = "http://www.w3.org/2000/svg"

/** The next round number. @param {number} least */
export function roundStep(least) {
  const power = 10 ** Math.floor(Math.log10(least))
  return power * ([1, 1.5, 2, 3, 4, 5, 6, 8].find((part) => part * power >= least * 0.999) ?? 10)
}

/** @param {number} value */
export function number(value) {
  return value > 0 && value < 0.001 ? value.toExponential() : String(Number(value.toPrecision(3)))
}

/** @param {string} name @param {Record<string, string | number>} attributes @param {(Node | string)[]} children */
export function made(name, attributes, children = []) {
  const element = document.createElementNS(SVG, name)
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value))
  element.append(...children)
  return element
}
