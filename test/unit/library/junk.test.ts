/**
 * Arguments without any sense. Every method that an image, a handle and a directory have is found by itself and gets all of
 * them, in every place and in every option: what reaches the engine unchecked ends all writing, and that shows.
 */
import assert from 'node:assert/strict';
import { finished } from 'node:stream';
import { Dir, FileHandle, Image, openImage, replayImage } from '../../../src/index.js';
import { codeOfRejected } from '../../support/code-of.js';
import { fsck, makeImage } from '../../support/mke2fs.js';

const detached = new Uint8Array(8);
structuredClone(detached.buffer, { transfer: [detached.buffer] });

const JUNK: readonly unknown[] = [
  undefined,
  null,
  {},
  [],
  [null],
  () => {},
  Symbol('s'),
  1n,
  -1n,
  2n ** 70n,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  -7,
  0.5,
  2 ** 40,
  2 ** 60,
  true,
  '',
  'junk\0',
  new Date(Number.NaN),
  new Map(),
  detached,
  Object.create(Date.prototype),
  { seconds: 1n, nanoseconds: 'x' },
  new Proxy(
    {},
    {
      get() {
        throw Object.assign(new TypeError('not to be looked at'), { code: 'ERR_JUNK' });
      },
    },
  ),
];

/** Names of the options of all methods together. */
const OPTIONS = [
  'encoding flag mode flush recursive force noReplace exchange withFileTypes bigint create replace buffer offset length',
  'position start end highWaterMark autoClose signal filter errorOnExist dereference verbatimSymlinks preserveTimestamps',
]
  .join(' ')
  .split(' ');
const MOST_ARGUMENTS = 4;
/** No arguments, or an end that would keep the others from their turn. */
const LEFT_OUT = [
  'constructor',
  'close',
  'sync',
  'datasync',
  'check',
  'statAs',
  'chownAs',
  'utimesAs',
  'pathFound',
  'mustAllow',
];
/** Arguments with sense, one of which is replaced; those of writeFile fit most methods. */
const SENSE: Record<string, readonly unknown[]> = {
  access: ['/file', 0],
  chmod: ['/file', 0o600],
  chown: ['/file', 1, 1],
  copyFile: ['/file', '/copy', 0],
  cp: ['/file', '/copy', {}],
  getxattr: ['/file', 'user.x'],
  lchown: ['/file', 1, 1],
  lutimes: ['/file', 1, 1],
  mkdir: ['/directory', {}],
  mkdtemp: ['/temporary'],
  mknod: ['/node', 0o010644, 5],
  open: ['/file', 'w', 0o600],
  opendir: ['/', {}],
  readdir: ['/', {}],
  readlink: ['/link', {}],
  removexattr: ['/file', 'user.x'],
  rename: ['/file', '/renamed', {}],
  setxattr: ['/file', 'user.x', 'value', {}],
  statfs: ['/', {}],
  truncate: ['/file', 10],
  utimes: ['/file', 1, 1],
  walk: ['/', {}],
};
const HANDLE_SENSE: Record<string, readonly unknown[]> = {
  chmod: [0o600],
  chown: [1, 1],
  fallocate: ['allocate', 0, 4096],
  read: [Buffer.alloc(10), 0, 10, 0],
  readv: [[Buffer.alloc(10)], 0],
  truncate: [10],
  utimes: [1, 1],
  write: [Buffer.alloc(10), 0, 10, 0],
  writev: [[Buffer.alloc(10)], 0],
};

const methodsOf = (shape: { readonly prototype: object }): string[] =>
  Object.entries(Object.getOwnPropertyDescriptors(shape.prototype))
    .filter(([name, { value }]) => typeof value === 'function' && !LEFT_OUT.includes(name))
    .map(([name]) => name);

/** Every list of arguments of which one is junk, or has junk for an option. */
function* attempts(sense: readonly unknown[]): Generator<unknown[]> {
  yield [];
  for (let place = 0; place < MOST_ARGUMENTS; place++) {
    const having = (value: unknown) => Object.assign([...sense], { [place]: value });
    for (const junk of JUNK) yield having(junk);
    if (place === 0) continue;
    for (const name of OPTIONS) for (const junk of JUNK) yield having({ [name]: junk });
  }
}

/** What came of a call, to its end: what it made is read, or closed. */
async function outcome(call: () => unknown): Promise<void> {
  const result = await call();
  if (result instanceof FileHandle) await result.close();
  else if (typeof result !== 'object' || result === null) return;
  else if ('destroy' in result && typeof result.destroy === 'function') {
    const ended = new Promise<void>((done, fail) => {
      finished(result as unknown as NodeJS.ReadableStream, (error) => (error ? fail(error) : done()));
    });
    if ('resume' in result && typeof result.resume === 'function') result.resume();
    if ('end' in result && typeof result.end === 'function') result.end();
    await ended;
  } else if (Symbol.asyncIterator in result) {
    for await (const piece of result as AsyncIterable<unknown>) assert.notEqual(piece, undefined);
  }
}

describe('arguments without any sense', function () {
  this.timeout(300_000);

  async function survives(use: (image: Image, attempt: typeof tried) => Promise<void>): Promise<void> {
    const bytes = makeImage(16, ['-b', '1024']).slice();
    const image = await openImage(bytes, { commitIntervalMs: 1_000_000 });
    await image.writeFile('/kept', 'not committed yet');
    await image.symlink('file', '/link');
    await use(image, tried);
    assert.equal(image.readOnly, false, 'the journal goes on');
    assert.equal(await image.readFile('/kept', 'utf8'), 'not committed yet');
    await image.writeFile('/after', 'after', { flush: true });
    assert.deepEqual(await image.check(), []);
    await image.close();
    const { code, output } = fsck(bytes);
    assert.equal(code, 0, output);
    const again = await openImage(bytes);
    assert.equal(await again.readFile('/kept', 'utf8'), 'not committed yet');
    await again.close();
  }

  async function tried(image: Image, target: object, name: string, args: readonly unknown[]): Promise<void> {
    const method = (target as Record<string, (...given: readonly unknown[]) => unknown>)[name];
    const told = `${name}(${args.map((value) => (typeof value === 'object' ? JSON.stringify(Object.keys(value ?? {})) : String(value)))})`;
    try {
      await outcome(() => method.apply(target, [...args]));
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? error.code : undefined;
      assert.equal(typeof code, 'string', `${told}: ${error instanceof Error ? error.stack : String(error)}`);
    }
    assert.equal(image.readOnly, false, `after ${told} nothing can be written`);
  }

  for (const name of methodsOf(Image)) {
    it(`end nothing in ${name} of an image`, () =>
      survives(async (image, attempt) => {
        for (const args of attempts(SENSE[name] ?? ['/file', '/file', {}])) {
          await image.writeFile('/file', 'content');
          await attempt(image, image, name, args);
          for (const made of ['/copy', '/directory', '/node', '/renamed'])
            await image.rm(made, { recursive: true, force: true });
        }
      }));
  }

  for (const name of methodsOf(FileHandle)) {
    it(`end nothing in ${name} of a handle`, () =>
      survives(async (image, attempt) => {
        for (const args of attempts(HANDLE_SENSE[name] ?? ['content', {}])) {
          const handle = await image.open('/file', 'w+');
          await attempt(image, handle, name, args);
          await handle.close();
        }
      }));
  }

  it('end nothing in directories that are read', () =>
    survives(async (image, attempt) => {
      for (const name of methodsOf(Dir)) {
        for (const junk of JUNK) await attempt(image, await image.opendir('/'), name, [junk]);
      }
    }));

  it('are refused with a code when an image is opened', async () => {
    const bytes = makeImage(16, []).slice();
    const options =
      'readOnly noRecovery offsetBytes sizeLimitBytes owner umask commitIntervalMs cacheBytes errors policy log'.split(
        ' ',
      );
    for (const junk of JUNK) {
      for (const open of [openImage, replayImage]) {
        assert.match(await codeOfRejected(open(junk as string)), /^E/);
        const close = async (given: object) => {
          const opened = await open(bytes, given);
          if (opened instanceof Image) await opened.close();
        };
        for (const name of options) assert.match(await codeOfRejected(close({ [name]: junk })), /^(E|done)/, name);
        assert.match(await codeOfRejected(close(junk as object)), /^(E|done)/);
        assert.match(await codeOfRejected(close({ policy: { journalsData: junk } })), /^(E|done)/);
        assert.match(await codeOfRejected(close({ policy: { resuid: junk } })), /^(E|done)/);
      }
    }
    assert.equal(fsck(bytes).code, 0);
  });
});
