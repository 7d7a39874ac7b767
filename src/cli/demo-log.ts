/** The log in a few lines, from what `ext4d journal --json` tells. */
import { PROGRAM, runTool } from './demo-server.js';

interface Listing {
  readonly journal: { readonly logBlocks: number; readonly blockSize: number };
  readonly transactions: readonly {
    readonly tid: number;
    readonly committed: string | null;
    readonly blocks: readonly { readonly owner?: { readonly what: string } }[];
    readonly revokes: readonly number[];
  }[];
  readonly end: { readonly reason: string };
}

/** Transactions shown from each end of the log. */
const SHOWN = 4;

export function summariseLog(image: string): string[] {
  const listing = JSON.parse(runTool(process.execPath, [PROGRAM, 'journal', '--json', image]).output) as Listing;
  const { transactions, end } = listing;
  const lines = transactions.map(({ tid, committed, blocks, revokes }) => {
    const uses = new Map<string, number>();
    for (const { owner } of blocks) uses.set(owner?.what ?? 'unknown', (uses.get(owner?.what ?? 'unknown') ?? 0) + 1);
    const parts = [...uses].map(([what, n]) => `${n} ${what}`).join(', ');
    const revoked = revokes.length === 0 ? '' : `; ${revokes.length} revoked`;
    const time = committed === null ? 'not committed' : committed.slice(11, 23);
    return `transaction ${tid} (${time}): ${blocks.length} blocks: ${parts}${revoked}`;
  });
  const hidden = lines.length - 2 * SHOWN;
  if (hidden > 0) lines.splice(SHOWN, hidden, `... ${hidden} more ...`);
  const blocks = transactions.reduce((sum, transaction) => sum + transaction.blocks.length, 0);
  const revokes = transactions.reduce((sum, transaction) => sum + transaction.revokes.length, 0);
  lines.push(
    `in all: ${transactions.length} transactions, ${blocks} blocks, ${revokes} revokes; ends because: ${end.reason}`,
  );
  return lines;
}
