// The whole canvas, and its colours, from OKLab (Ottosson, 2020) to sRGB.
attribute vec2 at;
uniform vec3 colours[5];
varying vec3 deep, mid, bright, accent, ground;

vec3 srgb(vec3 lab) {
  vec3 lms = vec3(
    lab.x + 0.3963377774 * lab.y + 0.2158037573 * lab.z,
    lab.x - 0.1055613458 * lab.y - 0.0638541728 * lab.z,
    lab.x - 0.0894841775 * lab.y - 1.291485548 * lab.z
  );
  lms *= lms * lms;
  vec3 light = clamp(vec3(
    4.0767416621 * lms.x - 3.3077115913 * lms.y + 0.2309699292 * lms.z,
    -1.2684380046 * lms.x + 2.6097574011 * lms.y - 0.3413193965 * lms.z,
    -0.0041960863 * lms.x - 0.7034186147 * lms.y + 1.707614701 * lms.z
  ), 0.0, 1.0);
  return mix(1.055 * pow(light, vec3(1.0 / 2.4)) - 0.055, 12.92 * light, step(light, vec3(0.0031308)));
}

void main() {
  gl_Position = vec4(at, 0.0, 1.0);
  deep = srgb(colours[0]);
  mid = srgb(colours[1]);
  bright = srgb(colours[2]);
  accent = srgb(colours[3]);
  ground = srgb(colours[4]);
}
