// Elements of the pages.

/** @param {string} id */
export const byId = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

/** @param {string} id */
export const canvasById = (id) => /** @type {HTMLCanvasElement} */ (byId(id));

/** The elements that match. @param {string} selector @param {ParentNode} [within] */
export function all(selector, within = document) {
  return /** @type {HTMLElement[]} */ ([...within.querySelectorAll(selector)]);
}

/** A new element with properties and children.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} kind @param {Partial<HTMLElementTagNameMap[K]>} [properties]
 * @param {(Node | string)[]} children */
export function element(kind, properties, ...children) {
  const made = Object.assign(document.createElement(kind), properties);
  made.append(...children);
  return made;
}

/** What a template holds. @param {string} id */
export function copyOf(id) {
  const { content } = /** @type {HTMLTemplateElement} */ (byId(id));
  return /** @type {HTMLElement} */ (content.firstElementChild?.cloneNode(true));
}

/** Sets a text only where it is another one. @param {Element} target @param {string} text */
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/** @param {HTMLCanvasElement} canvas */
export const contextOf = (canvas) => /** @type {Context} */ (canvas.getContext("2d"));

/** A colour of the stylesheet, such as `music`, in the present mode. @param {string} name */
export const colour = (name) => getComputedStyle(document.body).getPropertyValue(`--${name}`);
