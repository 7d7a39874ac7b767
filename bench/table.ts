/** Medians and ratios as a table that people and Markdown can read. */
import type { Row } from './rows.js';
import { median } from './shell.js';

/** Figures of every round, by "server row". */
export type Figures = Map<string, number[]>;

const shown = (value: number) => {
  if (Number.isNaN(value)) return '-';
  return value >= 100 ? Math.round(value).toLocaleString('en') : value.toPrecision(3);
};

export function table(rows: readonly Row[], figures: Figures, onDisk: boolean): string {
  const of = (server: string, row: Row) => median(figures.get(`${server} ${row.name}`) ?? []);
  const lines = rows.map((row) => {
    const [ours, fuse2fs, kernel] = ['ext4d', 'fuse2fs', 'kernel'].map((server) => of(server, row));
    // For times the ratio says how much longer it takes.
    const wanted = (onDisk ? row.goalOnDisk : undefined) ?? row.goal;
    const { overFuse2fs = 0 } = row;
    const faster = row.unit === 's' ? fuse2fs / ours : ours / fuse2fs;
    const disk = onDisk && row.disk !== undefined ? of('disk', row) : undefined;
    const near = row.unit === 's' ? ours / kernel <= wanted : ours / (disk ?? kernel) >= wanted;
    const reached = near && !(faster < overFuse2fs);
    const more = `${overFuse2fs > 0 ? `, ${overFuse2fs} x fuse2fs` : ''}${disk === undefined ? '' : ` of the disk's ${shown(disk)}`}`;
    const goal = `${row.unit === 's' ? '<=' : '>='} ${wanted}${more}`;
    const cells = [ours, fuse2fs, kernel].map(shown);
    const verdict = Number.isNaN(kernel) ? '-' : reached ? 'yes' : 'no';
    return [`${row.name}, ${row.unit}`, ...cells, shown(faster), shown(ours / kernel), goal, verdict];
  });
  const head = ['row', 'ext4d', 'fuse2fs', 'kernel', 'faster than fuse2fs', 'of the kernel', 'goal', 'reached'];
  return format([head, ...lines]);
}

function format(lines: readonly string[][]): string {
  const widths = lines[0].map((_, column) => Math.max(...lines.map((line) => line[column].length)));
  const text = lines.map(
    (line) => `| ${line.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join(' | ')} |`,
  );
  const rule = `| ${widths.map((width, i) => (i === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`)).join(' | ')} |`;
  return `${[text[0], rule, ...text.slice(1)].join('\n')}\n`;
}
