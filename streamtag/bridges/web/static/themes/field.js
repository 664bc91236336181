// A field of colour: slow folds of light, drawn by the graphics card (field.vert, field.frag).

import { palette } from "../colour.js";
import { Type } from "./type.js";

/** @param {string} file */
const read = async (file) => (await fetch(new URL(file, import.meta.url))).text();
const [VERTEX_SHADER, FRAGMENT_SHADER] = await Promise.all(["field.vert", "field.frag"].map(read));
const SOURCES = { VERTEX_SHADER, FRAGMENT_SHADER };

export class Field {
  /** Pixels of the longer side, at most: without edges the browser may enlarge a picture. */
  widest = 1280;
  #gl;
  #program = /** @type {WebGLProgram} */ ({});
  #at = /** @type {Record<string, WebGLUniformLocation | null>} */ ({});

  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    const options = { antialias: false, depth: false, powerPreference: "low-power" };
    this.#gl = /** @type {WebGLRenderingContext | null} */ (canvas.getContext("webgl", options));
    this.flat = this.#gl ? null : new Type(); // where there is no graphics card
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => this.#prepare());
    this.#prepare();
  }

  #prepare() {
    const gl = this.#gl;
    if (!gl) return;
    const program = (this.#program = gl.createProgram());
    this.#at = {};
    for (const kind of /** @type {const} */ (["VERTEX_SHADER", "FRAGMENT_SHADER"])) {
      const shader = /** @type {WebGLShader} */ (gl.createShader(gl[kind]));
      gl.shaderSource(shader, SOURCES[kind]);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
      console.error("the field's program:", gl.getProgramInfoLog(program));
      this.#gl = null;
      return;
    }
    gl.useProgram(program);
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([-1, -1, 3, -1, -1, 3]), gl.STATIC_DRAW);
    const at = gl.getAttribLocation(program, "at");
    gl.enableVertexAttribArray(at);
    gl.vertexAttribPointer(at, 2, gl.FLOAT, false, 0, 0);
  }

  /** @param {HTMLCanvasElement} canvas @param {Look} look @param {Drawing} drawing */
  draw(canvas, look, drawing) {
    const { light, transparent } = drawing;
    const { valence, arousal, certainty, silence, voice, lost, colourful, phases } = look;
    const { deep, mid, bright, accent } = palette(valence, arousal, colourful, light);
    const ground = light ? [0.985, 0.001, 0.002] : deep.map((x) => 0.53 * x);
    const gl = this.#gl;
    this.flat?.draw(canvas, look, drawing);
    if (!gl || gl.isContextLost()) return;
    const at = (/** @type {string} */ name) =>
      (this.#at[name] ??= gl.getUniformLocation(this.#program, name));
    const numbers = { arousal: (arousal + 1) / 2, certainty, silence, voice, lost };
    const flags = { light: Number(light), clear: Number(transparent) };
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.uniform2f(at("size"), canvas.width, canvas.height);
    gl.uniform2fv(at("phase"), phases);
    gl.uniform3fv(at("colours"), [deep, mid, bright, accent, ground].flat());
    for (const [name, x] of Object.entries({ ...numbers, ...flags })) gl.uniform1f(at(name), x);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }
}
