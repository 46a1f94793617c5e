/** Elements of the page. */

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} name
 * @param {Record<string, string | number | boolean>} [attributes]
 * @param {(Node | string)[]} [children]
 * @returns {HTMLElementTagNameMap[T]}
 */
export function element(name, attributes = {}, children = []) {
  const made = document.createElement(name)
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value))
  made.append(...children)
  return made
}

/** Once for the page. @param {string} address of a style sheet */
export function styled(address) {
  if (!document.querySelector(`link[href="${address}"]`)) document.head.append(element("link", { rel: "stylesheet", href: address }))
}
