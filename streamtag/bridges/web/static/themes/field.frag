// A field of colour. Sines that bend each other's coordinates fold the plane like silk. Arousal
// makes the folds finer, certainty makes them clear. Silence is a horizon, speech are rings, a lost
// source is an empty sky.
precision highp float;
uniform vec2 size;
varying vec3 deep, mid, bright, accent, ground;
uniform vec2 phase[5];
uniform float arousal, certainty, silence, voice, lost, light, clear;

void main() {
  float small = min(size.x, size.y);
  vec2 p = (gl_FragCoord.xy - 0.5 * size) / small;
  vec2 q = p * mix(1.0, 1.7, arousal) * vec2(1.0, mix(1.5, 1.0, arousal));
  for (int i = 0; i < 5; i++) {
    float f = 1.0 + 0.85 * float(i);
    float fine = i < 2 ? 1.0 : mix(0.12, 1.0, certainty) * mix(0.45, 1.0, arousal);
    q += 0.62 * fine / f * vec2(sin(1.7 * f * q.y + phase[i].x), cos(1.3 * f * q.x + phase[i].y));
  }
  float fold = 0.5 + 0.5 * sin(1.5 * q.x + 0.8 * q.y);
  float other = 0.5 + 0.5 * sin(1.6 * q.y - 0.7 * q.x + 1.7);
  vec3 c = mix(deep, mid, smoothstep(0.08, 0.95, fold));
  c = mix(c, accent, 0.75 * smoothstep(0.4, 1.0, other));
  float glow = pow(fold * other, mix(3.0, 1.8, arousal));
  c = mix(c, bright, mix(0.55, 0.85, arousal) * smoothstep(0.1, 0.9, glow));
  vec3 mist = mix(mix(deep, mid, 0.25 + 0.6 * fold), bright, 0.3 * smoothstep(0.5, 1.0, other));
  c = mix(mist, c, mix(0.15, 1.0, smoothstep(0.1, 0.7, certainty)));

  float h = p.y - 0.06 + 0.018 * sin(2.2 * p.x + phase[0].x);
  float horizon = exp(-h * h * (h > 0.0 ? 30.0 : 220.0)) * exp(-0.9 * p.x * p.x);
  c = mix(c, mix(mix(ground, deep, 0.35), mid, horizon), silence);

  float far = length(p - vec2(0.28 * size.x / small, 0.08));
  float ring = 0.5 + 0.5 * sin(24.0 * far - phase[1].y);
  vec3 said = mix(mix(ground, deep, 0.7), mid, 0.08 + 0.75 * ring * exp(-2.2 * far));
  said = mix(said, bright, 0.45 * exp(-22.0 * far * far));
  c = mix(c, said, voice);

  vec3 sky = mix(ground, mix(deep, mid, 0.45), smoothstep(-0.55, 0.75, p.y + 0.25 * p.x + 0.06 * sin(2.0 * p.x + phase[0].x)));
  c = mix(c, sky, lost);

  float veil = smoothstep(0.55, -0.62, p.y + 0.28 * p.x * small / size.x);
  c = mix(c, ground, 0.72 * veil * (1.0 - 0.6 * lost));
  float grain = fract(sin(dot(gl_FragCoord.xy, vec2(12.9898, 78.233))) * 43758.5453) - 0.5;
  c += grain * mix(0.012, 0.006, light);
  float alpha = mix(1.0, 0.9 * smoothstep(0.12, -0.5, p.y + 0.05 * fold), clear);
  gl_FragColor = vec4(c * alpha, alpha);
}
