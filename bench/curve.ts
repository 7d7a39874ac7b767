/** Curves as SVG: both axes logarithmic, so that a cost that stays the same is a level line. */

export interface Curve {
  readonly name: string;
  /** [x, y], both above 0. */
  readonly points: readonly (readonly [number, number])[];
}

const WIDTH = 640;
const HEIGHT = 360;
const LEFT = 70;
const RIGHT = 150;
const TOP = 40;
const BOTTOM = 50;
const COLOURS = ['#1b6ca8', '#c0392b', '#2e8b57', '#8e44ad', '#b9770e'];

const decades = (low: number, high: number) => {
  const first = Math.floor(Math.log10(low));
  const last = Math.max(first + 1, Math.ceil(Math.log10(high) - 1e-9));
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
};

function label(exponent: number): string {
  const units: [number, string][] = [
    [9, 'G'],
    [6, 'M'],
    [3, 'k'],
  ];
  const [from, unit] = units.find(([power]) => exponent >= power) ?? [0, ''];
  return `${Number((10 ** (exponent - from)).toPrecision(6))}${unit}`;
}

/** A picture that says in words what it shows. */
export function drawing(title: string, xTitle: string, yTitle: string, curves: readonly Curve[]): string {
  const points = curves.flatMap((curve) => curve.points);
  const xs = decades(Math.min(...points.map(([x]) => x)), Math.max(...points.map(([x]) => x)));
  const ys = decades(Math.min(...points.map(([, y]) => y)), Math.max(...points.map(([, y]) => y)));
  const along = (value: number, ticks: number[]) =>
    (Math.log10(value) - ticks[0]) / (ticks[ticks.length - 1] - ticks[0]);
  const x = (value: number) => (LEFT + along(value, xs) * (WIDTH - LEFT - RIGHT)).toFixed(1);
  const y = (value: number) => (HEIGHT - BOTTOM - along(value, ys) * (HEIGHT - TOP - BOTTOM)).toFixed(1);
  const text = (px: string | number, py: string | number, anchor: string, words: string, more = '') =>
    `<text x="${px}" y="${py}" text-anchor="${anchor}"${more}>${words}</text>`;
  const grid = [
    ...xs.map((tick) => {
      const at = x(10 ** tick);
      const line = `<path d="M${at} ${TOP}V${HEIGHT - BOTTOM}" stroke="#ddd"/>`;
      return line + text(at, HEIGHT - BOTTOM + 18, 'middle', label(tick));
    }),
    ...ys.map((tick) => {
      const at = y(10 ** tick);
      const line = `<path d="M${LEFT} ${at}H${WIDTH - RIGHT}" stroke="#ddd"/>`;
      return line + text(LEFT - 8, Number(at) + 4, 'end', label(tick));
    }),
  ];
  const lines = curves.map((curve, i) => {
    const colour = COLOURS[i % COLOURS.length];
    const path = curve.points.map(([px, py], k) => `${k === 0 ? 'M' : 'L'}${x(px)} ${y(py)}`).join('');
    const dots = curve.points.map(([px, py]) => `<circle cx="${x(px)}" cy="${y(py)}" r="3" fill="${colour}"/>`);
    const key = text(WIDTH - RIGHT + 12, TOP + 16 + 20 * i, 'start', curve.name, ` fill="${colour}"`);
    return `<path d="${path}" fill="none" stroke="${colour}" stroke-width="2"/>${dots.join('')}${key}`;
  });
  const frame = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">`;
  return [
    frame,
    `<title>${title}</title><rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>`,
    text(LEFT, 22, 'start', title, ' font-size="14" font-weight="bold"'),
    ...grid,
    text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, 'middle', xTitle),
    text(16, TOP - 6, 'start', yTitle),
    ...lines,
    '</svg>\n',
  ].join('\n');
}
