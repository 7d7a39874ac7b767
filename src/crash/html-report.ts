/** A report of a crash test as one HTML file: what happened, when, and which crashes broke a promise. No scripts, no links. */
import { BlockType, JBD2_MAGIC } from '../jbd2/format.js';
import type { Explored, Outcome } from './outcomes.js';
import type { LogEntry, LoggedWrite } from './write-log.js';

export interface ReportFacts {
  readonly command: string;
  readonly verify: string | null;
  readonly exitCode: number;
  readonly seconds: number;
}

const COLOURS: Readonly<Record<Outcome, string>> = {
  kept: '#2a7f3f',
  unverified: '#8a8f98',
  broken: '#c62828',
  'not recovered': '#6a1b9a',
};
const ROWS = { operations: 30, data: 70, log: 100, home: 130, flushes: 160, states: 200 };
const STEP_PX = 9;
const DOT_PX = 7;
const LEFT_PX = 110;
/** Broken kinds of states described one by one. */
const MOST_DESCRIBED = 40;

const escaped = (text: string) =>
  text.replace(/[&<>"]/g, (letter) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[letter] ?? letter);

/** The report. `logRange` tells which bytes of the device are the log. */
export function htmlReport(
  facts: ReportFacts,
  log: readonly LogEntry[],
  explored: Explored,
  inLog: (write: LoggedWrite) => boolean,
): string {
  const count = (outcome: Outcome) =>
    explored.kinds.filter((kind) => kind.outcome === outcome).reduce((sum, { states }) => sum + states.length, 0);
  const summary = (Object.keys(COLOURS) as Outcome[])
    .map((outcome) => `<span style="color:${COLOURS[outcome]}">&#9679; ${outcome}: ${count(outcome)}</span>`)
    .join(' &nbsp; ');
  return `<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>ext4d crash test</title>
<style>body{font:14px/1.5 sans-serif;margin:2em;max-width:1100px}pre{background:#f4f4f6;padding:.6em;overflow:auto}
.scroll{overflow-x:auto;border:1px solid #ddd}svg text{font:11px sans-serif}td,th{text-align:left;padding:.2em .8em;vertical-align:top}</style>
<h1>Crash test</h1>
<p><code>${escaped(facts.command)}</code> ended with exit code ${facts.exitCode}.
${facts.verify === null ? 'Nobody verified what was found: give --verify.' : `Verified by <code>${escaped(facts.verify)}</code>.`}</p>
<p>${explored.states.length} crash states, ${explored.kinds.length} of them different to a program, in ${facts.seconds.toFixed(1)} s.<br>${summary}</p>
<h2>What happened</h2>
<div class="scroll">${timeline(log, explored, inLog)}</div>
<p>From left to right everything that reached the disk. A crash state is a dot below the moment of the crash; point at one for its name.</p>
<h2>Broken promises</h2>
${brokenKinds(log, explored)}
</html>
`;
}

function timeline(log: readonly LogEntry[], explored: Explored, inLog: (write: LoggedWrite) => boolean): string {
  const x = (position: number) => LEFT_PX + position * STEP_PX;
  const shapes: string[] = Object.entries(ROWS).map(
    ([name, y]) => `<text x="4" y="${y + 4}" fill="#555">${name === 'states' ? 'crash states' : name}</text>`,
  );
  log.forEach((entry, i) => {
    if (entry.kind === 'flush') {
      shapes.push(
        `<line x1="${x(i)}" x2="${x(i)}" y1="15" y2="${ROWS.flushes}" stroke="#bbb"><title>flush</title></line>`,
      );
    } else if (entry.kind === 'mark') {
      const colour = entry.promise ? '#1565c0' : '#444';
      shapes.push(
        `<circle cx="${x(i)}" cy="${ROWS.operations}" r="3.5" fill="${colour}"><title>${escaped(entry.text)}</title></circle>`,
      );
    } else shapes.push(writeShape(entry, x(i), inLog(entry)));
  });
  const stacked = new Map<number, number>();
  for (const { point, kind, name } of explored.states) {
    const level = stacked.get(point.position) ?? 0;
    stacked.set(point.position, level + 1);
    const { outcome } = explored.kinds[kind];
    const column = Math.floor(level / 20);
    shapes.push(
      `<circle cx="${x(point.position) + column * 3}" cy="${ROWS.states + (level % 20) * DOT_PX}" r="3" fill="${COLOURS[outcome]}"><title>${name}: ${outcome}</title></circle>`,
    );
  }
  const height = ROWS.states + Math.min(20, Math.max(1, ...stacked.values())) * DOT_PX + 10;
  return `<svg width="${x(log.length) + 60}" height="${height}">${shapes.join('')}</svg>`;
}

function writeShape(write: LoggedWrite, x: number, inLog: boolean): string {
  const type = recordType(write);
  const row = inLog ? ROWS.log : write.origin === 'journal' ? ROWS.home : ROWS.data;
  const what =
    type === BlockType.COMMIT
      ? 'commit block'
      : inLog
        ? 'log'
        : write.origin === 'journal'
          ? 'metadata goes home'
          : 'file data';
  const tid = type === 0 || !inLog ? '' : ` of transaction ${sequenceOf(write)}`;
  const fill = type === BlockType.COMMIT ? '#ef6c00' : '#90a4ae';
  return `<rect x="${x - 3}" y="${row - 6}" width="7" height="12" fill="${fill}"><title>${what}${tid}, ${write.bytes.length} bytes at ${write.offsetBytes}</title></rect>`;
}

function recordType({ bytes }: LoggedWrite): number {
  if (bytes.length < 12) return 0;
  const view = new DataView(bytes.buffer, bytes.byteOffset, 12);
  return view.getUint32(0) === JBD2_MAGIC ? view.getUint32(4) : 0;
}

const sequenceOf = ({ bytes }: LoggedWrite) => new DataView(bytes.buffer, bytes.byteOffset, 12).getUint32(8);

function brokenKinds(log: readonly LogEntry[], explored: Explored): string {
  const broken = explored.kinds.filter(({ outcome }) => outcome === 'broken' || outcome === 'not recovered');
  if (broken.length === 0) return '<p>None.</p>';
  const rows = broken
    .slice(0, MOST_DESCRIBED)
    .map(
      ({ states, said }) =>
        `<tr><td>${escaped(states[0].name)}${states.length > 1 ? ` and ${states.length - 1} more` : ''}</td>` +
        `<td>${escaped(lastOperations(log, states[0].point.position).join(', '))}</td><td><pre>${escaped(said.slice(0, 2000))}</pre></td></tr>`,
    );
  const rest = broken.length > MOST_DESCRIBED ? `<p>and ${broken.length - MOST_DESCRIBED} other kinds.</p>` : '';
  return `<table><tr><th>crash point</th><th>last operations before it</th><th>what the verifier said</th></tr>${rows.join('')}</table>${rest}`;
}

/** The newest marks before a position, the newest last. */
export function lastOperations(log: readonly LogEntry[], position: number, most = 3): string[] {
  const found: string[] = [];
  for (let i = position - 1; i >= 0 && found.length < most; i--) {
    const entry = log[i];
    if (entry.kind === 'mark' && entry.text !== found[0]) found.unshift(entry.text);
  }
  return found;
}
