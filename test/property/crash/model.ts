/**
 * The oracle: an ext4 in memory that keeps every version of itself. It knows nothing of blocks or logs, only what the
 * calls mean, so that "what was there after the n-th operation" can be asked for all n.
 */

import type { RecoveredFile } from '../../../src/crash/recovered.js';
import { S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from '../../../src/ext4/format/inode.js';

export type Type = 'file' | 'directory' | 'symlink';

export class Node {
  readonly id: number;
  readonly type: Type;
  /** The engine's number for it. */
  readonly ino: number;
  mode: number;
  /** Never changed in place: versions share it. */
  content: Uint8Array;
  readonly entries = new Map<string, Node>();
  readonly xattrs = new Map<string, Uint8Array>();
  links = 1;
  /** Version in which a change of it was last made: what an fsync of it promises. */
  changedIn = 0;

  constructor(id: number, type: Type, ino: number, mode: number, content: Uint8Array = new Uint8Array(0)) {
    this.id = id;
    this.type = type;
    this.ino = ino;
    this.mode = mode;
    this.content = content;
  }

  get linkCount(): number {
    if (this.type !== 'directory') return this.links;
    return 2 + [...this.entries.values()].filter(({ type }) => type === 'directory').length;
  }
}

/** One moment. `tree` is everything but the content of files; `files` the content, by path. */
export interface Version {
  readonly tree: string;
  readonly files: ReadonlyMap<string, { readonly id: number; readonly content: Uint8Array }>;
}

export class Model {
  readonly root = new Node(0, 'directory', 2, 0o755);
  readonly versions: Version[] = [];
  /** Contents of each file, by version in which they became so. */
  readonly contents = new Map<number, { readonly version: number; readonly content: Uint8Array }[]>();
  /** Bytes of a file that a failed write may or may not have reached, by its id. */
  readonly undefined = new Map<number, { readonly from: number; readonly to: number }[]>();
  private nextId = 1;

  constructor() {
    this.commit([]);
  }

  get version(): number {
    return this.versions.length - 1;
  }

  make(type: Type, ino: number, mode: number, content?: Uint8Array): Node {
    return new Node(this.nextId++, type, ino, mode, content);
  }

  leaveUndefined(node: Node, from: number, to: number): void {
    this.undefined.set(node.id, [...(this.undefined.get(node.id) ?? []), { from, to }]);
  }

  find(path: string): Node | undefined {
    let node: Node | undefined = this.root;
    for (const part of path.split('/')) node = node?.entries.get(part);
    return node;
  }

  parentOf(path: string): Node | undefined {
    const slash = path.lastIndexOf('/');
    const parent = slash < 0 ? this.root : this.find(path.slice(0, slash));
    return parent?.type === 'directory' ? parent : undefined;
  }

  /** A step is done: what is there now is one more version. */
  commit(changed: readonly Node[], what: 'metadata' | 'data' = 'metadata'): void {
    const files = new Map<string, { id: number; content: Uint8Array }>();
    const lines: string[] = [];
    const first = new Map<Node, string>();
    const visit = (directory: Node, prefix: string) => {
      for (const name of [...directory.entries.keys()].sort()) {
        const node = directory.entries.get(name) as Node;
        const path = prefix + name;
        const firstPath = first.get(node) ?? path;
        first.set(node, firstPath);
        if (node.type === 'file') files.set(path, { id: node.id, content: node.content });
        lines.push(
          line(path, node.type, node.mode, node.linkCount, node.content, firstPath, [...node.xattrs.entries()].sort()),
        );
        if (node.type === 'directory') visit(node, `${path}/`);
      }
    };
    visit(this.root, '');
    this.versions.push({ tree: lines.join('\n'), files });
    for (const node of changed) {
      // Bytes overwritten in place change nothing that a commit could hold.
      if (what === 'metadata') node.changedIn = this.version;
      if (node.type !== 'file') continue;
      const history = this.contents.get(node.id) ?? [];
      if (history.length === 0) this.contents.set(node.id, history);
      if (history.at(-1)?.content !== node.content) history.push({ version: this.version, content: node.content });
    }
  }
}

function line(
  path: string,
  type: Type,
  mode: number,
  links: number,
  content: Uint8Array,
  first: string,
  xattrs: readonly (readonly [string, Uint8Array])[],
): string {
  const what =
    type === 'file' ? `${content.length} bytes` : type === 'symlink' ? `-> ${Buffer.from(content).toString()}` : '';
  const attributes = xattrs.map(([name, value]) => ` ${name}=${value.length}x${uniform(value)}`).join('');
  return `${path} ${type} ${mode.toString(8)} links=${links}${first === path ? '' : ` same as ${first}`} ${what}${attributes}`;
}

/** Values are one byte repeated; anything else is a mixture that no operation wrote. */
function uniform(value: Uint8Array): string {
  return value.every((byte) => byte === value[0])
    ? `${value[0] ?? ''}`
    : `mixed(${Buffer.from(value).toString('hex')})`;
}

const TYPES: ReadonlyMap<number, Type> = new Map([
  [S_IFREG, 'file'],
  [S_IFDIR, 'directory'],
  [S_IFLNK, 'symlink'],
]);

/** What {@link Version.tree} says, of a recovered filesystem. */
export function treeText(files: readonly RecoveredFile[]): string {
  return files
    .map(({ path, stat, first, content, xattrs }) =>
      line(
        path,
        TYPES.get(stat.mode & S_IFMT) ?? 'file',
        stat.mode & 0o7777,
        stat.nlink,
        content ?? new Uint8Array(0),
        first,
        xattrs,
      ),
    )
    .join('\n');
}
