/** The vocabulary of a crash workload: small, and nasty. Commands are plain data, so that a script can be printed and run again. */
import fc from 'fast-check';

export type Command =
  | { readonly op: 'create' | 'mkdir' | 'rmdir' | 'fsync' | 'chmod'; readonly path: string }
  /** So many long names in a directory: it grows, gets an index, and its blocks split. */
  | { readonly op: 'populate'; readonly path: string; readonly count: number }
  | { readonly op: 'symlink'; readonly path: string; readonly length: number }
  | { readonly op: 'link'; readonly path: string; readonly to: string }
  | { readonly op: 'rename' | 'exchange'; readonly path: string; readonly to: string }
  /** `open`: someone still has it open until `close`. */
  | { readonly op: 'unlink'; readonly path: string; readonly open: boolean }
  | { readonly op: 'write'; readonly path: string; readonly pos: number; readonly length: number }
  | { readonly op: 'append'; readonly path: string; readonly length: number }
  /** Space is mapped now, the bytes and the ioend follow with `land`, or before the file is used otherwise. */
  | { readonly op: 'slow-write'; readonly path: string; readonly pos: number; readonly length: number }
  /** The file is mapped now, and the bytes are read when `land` comes: whatever was done to it meanwhile. */
  | { readonly op: 'slow-read'; readonly path: string }
  | { readonly op: 'truncate'; readonly path: string; readonly size: number }
  | {
      /** `collapse` and `insert`: of whole clusters, and followed by an fsync, since the bytes of a file change places. */
      readonly op: 'allocate' | 'keep' | 'zero' | 'punch' | 'collapse' | 'insert';
      readonly path: string;
      readonly pos: number;
      readonly length: number;
    }
  | { readonly op: 'setxattr'; readonly path: string; readonly name: string; readonly length: number }
  | { readonly op: 'removexattr'; readonly path: string; readonly name: string }
  /** Half steps of the device: background commits and checkpoints get on. */
  | { readonly op: 'steps'; readonly count: number }
  | { readonly op: 'syncfs' | 'commit' | 'checkpoint' | 'idle' | 'close' | 'land' };

const PATHS = ['a', 'b', 'c', 'd', 'd/a', 'd/b', 'd/e', 'd/e/a', 'd/e/f', 'g'];

/** What workloads begin with: somewhere to put things. */
export const PRELUDE: readonly Command[] = [
  { op: 'mkdir', path: 'd' },
  { op: 'mkdir', path: 'd/e' },
];

/** The same, and a commit. */
export const COMMITTED_PRELUDE: readonly Command[] = [...PRELUDE, { op: 'create', path: 'a' }, { op: 'syncfs' }];

/** Sizes around block and inode boundaries, and far enough for extents to split. */
export function commandArbitrary(
  blockSize: number,
  /** Only these, with the same weights. */
  only?: readonly Command['op'][],
  attributeLengths: readonly number[] = [3, 20, 200, 600],
  fsyncWeight = 6,
): fc.Arbitrary<Command> {
  const path = fc.constantFrom(...PATHS);
  const pos = fc.oneof(
    fc.integer({ min: 0, max: 12 }).map((n) => n * blockSize),
    fc.integer({ min: 0, max: 12 * blockSize }),
  );
  const length = fc.oneof(
    fc.integer({ min: 1, max: 4 * blockSize }),
    fc.constantFrom(1, 100, blockSize, 3 * blockSize),
  );
  const choices: { weight: number; arbitrary: fc.Arbitrary<Command> }[] = [];
  const record = (
    weight: number,
    ops: readonly Command['op'][],
    fields: Record<string, fc.Arbitrary<unknown>> = {},
  ) => {
    const wanted = ops.filter((op) => only?.includes(op) ?? true);
    if (wanted.length === 0) return;
    const arbitrary = fc.record({ op: fc.constantFrom(...wanted), ...fields }) as unknown as fc.Arbitrary<Command>;
    choices.push({ weight, arbitrary });
  };
  record(4, ['create', 'mkdir'], { path });
  record(1, ['populate'], { path: fc.constantFrom('d', 'd/e'), count: fc.integer({ min: 4, max: 30 }) });
  record(8, ['write'], { path, pos, length });
  record(4, ['append'], { path, length });
  record(3, ['slow-write'], { path, pos, length });
  record(2, ['slow-read'], { path });
  record(2, ['land']);
  record(4, ['truncate'], { path, size: pos });
  record(4, ['allocate', 'keep', 'zero', 'punch'], { path, pos, length });
  record(2, ['collapse', 'insert'], { path, pos, length });
  record(5, ['rename'], { path, to: path });
  record(1, ['exchange'], { path, to: path });
  record(2, ['link'], { path, to: path });
  record(4, ['unlink'], { path, open: fc.boolean() });
  record(1, ['rmdir', 'chmod'], { path });
  record(1, ['symlink'], { path, length: fc.constantFrom(10, 59, 60, 200) });
  record(3, ['setxattr'], {
    path,
    name: fc.constantFrom('user.a', 'user.b'),
    length: fc.constantFrom(...attributeLengths),
  });
  record(1, ['removexattr'], { path, name: fc.constantFrom('user.a', 'user.b') });
  record(fsyncWeight, ['fsync'], { path });
  record(8, ['steps'], { count: fc.integer({ min: 1, max: 9 }) });
  record(4, ['commit']);
  record(5, ['syncfs', 'checkpoint', 'idle', 'close']);
  return fc.oneof(...choices);
}

/** The core operations of which all short sequences are tried, on two names and a directory (as ACE does). */
export function coreCommands(blockSize: number): Command[] {
  const files = ['a', 'd/a'];
  const commands: Command[] = [];
  for (const path of files) {
    const other = path === 'a' ? 'd/a' : 'a';
    commands.push(
      { op: 'create', path },
      { op: 'write', path, pos: 0, length: 2 * blockSize },
      { op: 'write', path, pos: 100, length: 300 },
      { op: 'append', path, length: blockSize + 7 },
      { op: 'truncate', path, size: 0 },
      { op: 'truncate', path, size: blockSize + 100 },
      { op: 'truncate', path, size: 5 * blockSize },
      { op: 'allocate', path, pos: 0, length: 4 * blockSize },
      { op: 'keep', path, pos: blockSize, length: 4 * blockSize },
      { op: 'zero', path, pos: 10, length: 2 * blockSize },
      { op: 'punch', path, pos: 10, length: 2 * blockSize },
      { op: 'collapse', path, pos: 0, length: blockSize },
      { op: 'insert', path, pos: blockSize, length: blockSize },
      { op: 'unlink', path, open: false },
      { op: 'unlink', path, open: true },
      { op: 'rename', path, to: other },
      { op: 'link', path, to: 'b' },
      { op: 'link', path, to: other },
      { op: 'setxattr', path, name: 'user.a', length: 20 },
      { op: 'setxattr', path, name: 'user.b', length: 500 },
      { op: 'removexattr', path, name: 'user.a' },
      { op: 'rename', path, to: 'b' },
    );
  }
  commands.push(
    { op: 'exchange', path: 'a', to: 'd/a' },
    { op: 'mkdir', path: 'e' },
    { op: 'mkdir', path: 'd/e' },
    { op: 'rmdir', path: 'd' },
    { op: 'rename', path: 'd', to: 'e' },
    { op: 'symlink', path: 'b', length: 200 },
    { op: 'symlink', path: 'd/b', length: 20 },
    { op: 'checkpoint' },
  );
  return commands;
}

/** What persists in such a sequence: after every operation one of these. */
export const PERSISTENCE: readonly Command[] = [
  { op: 'fsync', path: 'a' },
  { op: 'fsync', path: 'd/a' },
  { op: 'fsync', path: 'd' },
  { op: 'syncfs' },
];
