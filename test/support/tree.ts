/** A directory tree as comparable lines: names, types, modes, owners, times, sizes, contents, links and attributes. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { relative } from 'node:path';

export type Tree = Map<string, string>;

/** Describes every path below `root`; `lost+found` is left out. */
export function describeTree(root: string): Tree {
  const tree: Tree = new Map();
  const visit = (directory: Buffer) => {
    for (const name of readdirSync(directory, { encoding: 'buffer' })) {
      const path = Buffer.concat([directory, Buffer.from('/'), name]);
      const shown = relative(root, path.toString('latin1'));
      if (shown === 'lost+found') continue;
      const stat = lstatSync(path, { bigint: true });
      const parts = [
        `mode ${stat.mode.toString(8)} uid ${stat.uid} gid ${stat.gid} nlink ${stat.nlink} rdev ${stat.rdev}`,
        `mtime ${stat.mtimeNs}`,
      ];
      if (stat.isFile())
        parts.push(`size ${stat.size} sha256 ${createHash('sha256').update(readFileSync(path)).digest('hex')}`);
      if (stat.isSymbolicLink()) parts.push(`-> ${readlinkSync(path, { encoding: 'latin1' })}`);
      tree.set(shown, parts.join(' '));
      if (stat.isDirectory()) visit(path);
    }
  };
  visit(Buffer.from(root));
  for (const [path, line] of extendedAttributes(root)) tree.set(path, `${tree.get(path) ?? ''} ${line}`);
  return tree;
}

/** getfattr over the whole tree: path to its attributes, sorted. */
function extendedAttributes(root: string): Map<string, string> {
  const result = spawnSync('getfattr', ['-R', '-P', '-h', '-d', '-m', '-', '-e', 'hex', '.'], {
    cwd: root,
    encoding: 'latin1',
    maxBuffer: 1 << 28,
  });
  const attributes = new Map<string, string>();
  if (result.error) return attributes;
  for (const block of result.stdout.split('\n\n')) {
    const [head, ...values] = block.split('\n').filter((line) => line !== '');
    if (head?.startsWith('# file: ')) attributes.set(head.slice(8), values.sort().join(' '));
  }
  return attributes;
}

/** Enough to see what is different without flooding the report. */
const short = (line: string) => (line.length > 400 ? `${line.slice(0, 400)}… (${line.length})` : line);

/** Lines that differ, at most `limit`; empty when the trees are equal. */
export function treeDifferences(want: Tree, got: Tree, limit = 10): string[] {
  const differences: string[] = [];
  for (const [path, line] of want) {
    const other = got.get(path);
    if (other === undefined) differences.push(`missing: ${path}`);
    else if (other !== line) differences.push(`${path}\n  want ${short(line)}\n  got  ${short(other)}`);
  }
  for (const path of got.keys()) if (!want.has(path)) differences.push(`not expected: ${path}`);
  return differences.slice(0, limit);
}
