/** What callers pass to the library, sense and nonsense, next to node:fs. */
import assert from 'node:assert/strict';
import { constants, mkdtempSync, rmSync } from 'node:fs';
import * as nodeFs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer, text } from 'node:stream/consumers';
import { finished } from 'node:stream/promises';
import { pathToFileURL } from 'node:url';
import { type Image, type OwnDevice, openImage } from '../../../src/index.js';
import { codeOfRejected } from '../../support/code-of.js';
import { fsck, makeImage } from '../../support/mke2fs.js';

const { O_CREAT, O_EXCL, O_RDWR, O_APPEND, O_WRONLY, COPYFILE_EXCL, COPYFILE_FICLONE, X_OK, W_OK } = constants;

async function withImage(use: (image: Image, bytes: Uint8Array) => Promise<void>): Promise<void> {
  const bytes = makeImage(16, ['-b', '1024']).slice();
  const image = await openImage(bytes);
  await use(image, bytes);
  assert.deepEqual(await image.check(), []);
  await image.close();
  const { code, output } = fsck(bytes);
  assert.equal(code, 0, output);
}

/** The same on the image and on a directory of the machine: paths begin with a slash in either. */
async function onBoth<T>(use: (fs: typeof nodeFs, at: (path: string) => string) => Promise<T>): Promise<void> {
  await withImage(async (image) => {
    const root = mkdtempSync(join(tmpdir(), 'ext4d-arguments-'));
    try {
      const theirs = await use(nodeFs, (path) => join(root, path));
      const ours = await use(image as unknown as typeof nodeFs, (path) => path);
      assert.deepEqual(ours, theirs);
    } finally {
      rmSync(root, { recursive: true, force: true });
    }
  });
}

describe('arguments of the library', function () {
  this.timeout(60_000);

  it('of files that are none: nothing is written through fifos, sockets, devices and directories', () =>
    withImage(async (image) => {
      await image.writeFile('/victim', 'data of another file');
      await image.mkdir('/directory');
      const types = { fifo: 0o010644, socket: 0o140644, character: 0o020644, block: 0o060644 };
      for (const [name, mode] of Object.entries(types)) {
        await image.mknod(`/${name}`, mode, 0x0905);
        for (const flags of ['w', 'a', 'r+', O_WRONLY])
          assert.equal(await codeOfRejected(image.open(`/${name}`, flags)), 'EINVAL');
        assert.equal(await codeOfRejected(image.writeFile(`/${name}`, 'x'.repeat(5000))), 'EINVAL');
        assert.equal(await codeOfRejected(image.appendFile(`/${name}`, 'x')), 'EINVAL');
        assert.equal(await codeOfRejected(image.truncate(`/${name}`, 3)), 'EINVAL');
        assert.equal(await codeOfRejected(image.copyFile('/victim', `/${name}`)), 'EINVAL');
        assert.equal(await codeOfRejected(image.copyFile(`/${name}`, '/copy')), 'EINVAL');
        assert.equal(await codeOfRejected(image.readFile(`/${name}`)), 'EINVAL');
        assert.equal((await image.lstat(`/${name}`)).size, 0);
      }
      assert.equal(await codeOfRejected(image.writeFile('/directory', 'x')), 'EISDIR');
      assert.equal(await codeOfRejected(image.truncate('/directory')), 'EISDIR');
      assert.equal(await image.readFile('/victim', 'utf8'), 'data of another file');
    }));

  it('of modes: numbers, octal digits, in options or alone', () =>
    onBoth(async (fs, at) => {
      const umask = process.umask(0o022);
      try {
        await fs.mkdir(at('/number'), 0o700);
        await fs.mkdir(at('/digits'), { mode: '0711' });
        await fs.writeFile(at('/file'), '', { mode: '0600' });
        await (await fs.open(at('/opened'), 'w', '640')).close();
        await fs.writeFile(at('/changed'), '');
        await fs.chmod(at('/changed'), '421');
        const modes = [];
        for (const name of ['/number', '/digits', '/file', '/opened', '/changed'])
          modes.push((await fs.stat(at(name))).mode & 0o7777);
        return modes;
      } finally {
        process.umask(umask);
      }
    }));

  it('of encodings: for files, handles, streams, options or strings', () =>
    onBoth(async (fs, at) => {
      await fs.writeFile(at('/hex'), '616263', 'hex');
      await fs.appendFile(at('/hex'), '64', 'hex');
      await fs.writeFile(at('/latin1'), 'größe', { encoding: 'latin1' });
      const handle = await fs.open(at('/handle'), 'w+');
      await handle.writeFile('7071', 'hex');
      await handle.appendFile('72', { encoding: 'hex' });
      await handle.write('73', null, 'hex');
      await handle.close();
      const out = (await fs.open(at('/stream'), 'w')).createWriteStream({ encoding: 'hex' });
      out.end('414243');
      await finished(out);
      const read = await fs.open(at('/latin1'));
      return [
        await fs.readFile(at('/hex'), { encoding: 'utf8' }),
        await fs.readFile(at('/latin1'), 'latin1'),
        (await fs.readFile(at('/latin1'), null)).length,
        await fs.readFile(at('/handle'), 'utf8'),
        await fs.readFile(at('/stream'), { encoding: 'utf8', flag: 'r' }),
        await text(read.createReadStream({ encoding: 'latin1' })),
        await codeOfRejected(fs.readFile(at('/hex'), 'nonsense' as 'utf8')),
      ];
    }));

  it('of flags: strings as they are spelled, and numbers', () =>
    onBoth(async (fs, at) => {
      const codes: string[] = [];
      for (const flags of [
        'r',
        'r+',
        'w',
        'wx',
        'w+',
        'wx+',
        'xw',
        'a',
        'ax',
        'a+',
        'as',
        'sa',
        'rs',
        'rs+',
        'rx',
        'x',
        'wa',
        '',
        O_RDWR,
        O_RDWR | O_CREAT,
        O_RDWR | O_CREAT | O_EXCL,
        O_WRONLY | O_APPEND,
      ]) {
        for (const there of [false, true]) {
          await fs.rm(at('/file'), { force: true });
          if (there) await fs.writeFile(at('/file'), 'before');
          const opened = fs.open(at('/file'), flags).then(async (handle) => {
            const written = await codeOfRejected(handle.write('x'));
            await handle.close();
            return `${written} ${await fs.readFile(at('/file'), 'utf8')}`;
          });
          codes.push(await opened.catch((error: { code: string }) => error.code));
        }
      }
      return codes;
    }));

  it('of reads: nothing, options with a buffer, positions', () =>
    onBoth(async (fs, at) => {
      await fs.writeFile(at('/file'), 'abcdefgh');
      const handle = await fs.open(at('/file'));
      const results: string[] = [];
      for (const args of [
        [],
        [{ buffer: Buffer.alloc(3), position: 1 }],
        [{ buffer: Buffer.alloc(3), position: 2 }],
        [Buffer.alloc(2), 0, 2, 4],
        [Buffer.alloc(2), { position: 5 }],
      ]) {
        const { bytesRead, buffer: into } = await (
          handle.read as (...given: unknown[]) => Promise<{ bytesRead: number; buffer: Buffer }>
        ).apply(handle, args);
        results.push(into.subarray(0, bytesRead).toString());
      }
      await handle.close();
      for (const use of [
        () => handle.stat(),
        () => handle.sync(),
        () => handle.chmod(0o600),
        () => handle.utimes(1, 1),
        () => handle.read(),
      ])
        results.push(await codeOfRejected(use()));
      return results;
    }));

  it('of what to write: views, iterables and streams; what cannot be written empties nothing', () =>
    onBoth(async (fs, at) => {
      await fs.writeFile(at('/view'), new Uint16Array([0x4141, 0x4242]));
      await fs.writeFile(at('/data'), new DataView(new TextEncoder().encode('view').buffer));
      await fs.writeFile(at('/iterable'), ['one ', 'two']);
      await fs.writeFile(
        at('/generator'),
        (async function* () {
          yield 'three ';
          yield Buffer.from('four');
        })(),
      );
      await fs.writeFile(at('/kept'), 'kept');
      const code = await codeOfRejected(fs.writeFile(at('/kept'), 5 as unknown as string));
      const contents = [];
      for (const name of ['/view', '/data', '/iterable', '/generator', '/kept'])
        contents.push(await fs.readFile(at(name), 'utf8'));
      return [...contents, code];
    }));

  it('of times: numbers, digits, dates', () =>
    onBoth(async (fs, at) => {
      await fs.writeFile(at('/file'), '');
      const times = [];
      for (const [atime, mtime] of [
        [1, 2],
        ['3', '4.5'],
        [new Date(5000), new Date(6500)],
      ] as const) {
        await fs.utimes(at('/file'), atime, mtime);
        const { atimeMs, mtimeMs } = await fs.stat(at('/file'));
        times.push(atimeMs, mtimeMs);
      }
      return [...times, await codeOfRejected(fs.utimes(at('/file'), null as unknown as number, 1))];
    }));

  it('of copies: onto itself, onto a link of it, onto what is there, with holes', () =>
    onBoth(async (fs, at) => {
      await fs.writeFile(at('/a'), 'content', { mode: 0o640 });
      await fs.link(at('/a'), at('/linked'));
      await fs.writeFile(at('/b'), 'other');
      const codes = [
        await codeOfRejected(fs.copyFile(at('/a'), at('/linked'))),
        await codeOfRejected(fs.copyFile(at('/a'), at('/b'), COPYFILE_EXCL)),
        await codeOfRejected(fs.copyFile(at('/a'), at('/c'), COPYFILE_EXCL)),
        await codeOfRejected(fs.copyFile(at('/a'), at('/d'), COPYFILE_FICLONE)),
      ];
      const contents = [];
      for (const name of ['/a', '/linked', '/b', '/c', '/d']) contents.push(await fs.readFile(at(name), 'utf8'));
      return [codes, contents, (await fs.stat(at('/c'))).mode & 0o777];
    }));

  it('of copies: holes stay holes', () =>
    withImage(async (image) => {
      const handle = await image.open('/sparse', 'w');
      await handle.write('start');
      await handle.write('middle', 3_000_000);
      await handle.truncate(5_000_001);
      await handle.close();
      await image.copyFile('/sparse', '/copy');
      assert.ok((await image.readFile('/copy')).equals(await image.readFile('/sparse')));
      assert.equal((await image.stat('/copy')).blocks, (await image.stat('/sparse')).blocks);
      await image.copyFile('/sparse', '/sparse');
      assert.equal((await image.stat('/sparse')).size, 5_000_001);
    }));

  it('of names: bytes that are no UTF-8, and file URLs', () =>
    withImage(async (image) => {
      const odd = Buffer.from([0x2f, 0x64, 0xff]);
      await image.mkdir(odd);
      await image.writeFile(Buffer.concat([odd, Buffer.from('/file')]), 'content');
      await image.writeFile(pathToFileURL('/with space'), 'url');
      assert.equal(await image.readFile('/with space', 'utf8'), 'url');
      const names: Buffer[] = await image.readdir('/', { encoding: 'buffer' });
      assert.ok(names.some((name) => name.equals(odd.subarray(1))));
      assert.deepEqual(await image.readdir(odd, 'buffer'), [Buffer.from('file')]);
      const found: string[] = [];
      for await (const [path] of image.walk('/', { encoding: 'buffer' })) found.push(path.toString('hex'));
      assert.ok(found.includes(Buffer.concat([odd, Buffer.from('/file')]).toString('hex')));
      const entries: string[] = [];
      for await (const [path] of image.walk('/')) entries.push(path);
      assert.ok(entries.some((path) => path.endsWith('/file')));
      assert.ok((await image.readdir('/', { recursive: true })).some((path) => path.endsWith('/file')));
      await image.rm(odd, { recursive: true });
    }));

  it('of mkdir and access', () =>
    onBoth(async (fs, at) => {
      const first = await fs.mkdir(at('/a/b/c'), { recursive: true });
      const again = await fs.mkdir(at('/a/b/c'), { recursive: true });
      await fs.writeFile(at('/file'), '');
      return [
        first?.slice(at('/').length - 1),
        again,
        await codeOfRejected(fs.access(at('/file'), X_OK)),
        await codeOfRejected(fs.access(at('/file'), W_OK)),
        await codeOfRejected(fs.access(at('/a'), X_OK)),
        await codeOfRejected(fs.access(at('/nothing'))),
      ];
    }));

  it('of opendir, mkdtemp, and what is told of a failure', () =>
    onBoth(async (fs, at) => {
      await fs.mkdir(at('/d'));
      for (const name of ['one', 'two']) await fs.writeFile(at(`/d/${name}`), name);
      const names: string[] = [];
      for await (const entry of await fs.opendir(at('/d'))) names.push(entry.name);
      const directory = await fs.opendir(at('/d'));
      const first = await directory.read();
      await directory.close();
      const made = await fs.mkdtemp(at('/d/tmp-'));
      const { mode } = await fs.stat(made);
      const told = await fs.readFile(at('/nothing')).catch((error: Error) => error.message);
      return [
        names.sort(),
        first?.isFile(),
        await codeOfRejected((async () => directory.read())()),
        made.slice(at('/d/tmp-').length).length,
        mode & 0o777,
        String(told).replace(at('/'), '/'),
      ];
    }));

  it('of cp: what is copied, what is refused', () =>
    onBoth(async (fs, at) => {
      await fs.mkdir(at('/d/e'), { recursive: true });
      await fs.writeFile(at('/d/e/file'), 'content', { mode: 0o640 });
      await fs.writeFile(at('/other'), 'other');
      await fs.symlink('e/file', at('/d/link'));
      await fs.cp(at('/d'), at('/new/copy'), { recursive: true, verbatimSymlinks: true });
      await fs.cp(at('/d/e/file'), at('/other'), { preserveTimestamps: true });
      await fs.cp(at('/d'), at('/led'), { recursive: true, filter: (source) => !source.endsWith('e') });
      const [{ mtimeMs }, copied] = [await fs.stat(at('/d/e/file')), await fs.stat(at('/other'))];
      return [
        await fs.readFile(at('/new/copy/link'), 'utf8'),
        await fs.readlink(at('/new/copy/link')),
        (await fs.readlink(at('/led/link'))).replace(at('/'), '/'),
        (await fs.readdir(at('/led'))).length,
        await fs.readFile(at('/other'), 'utf8'),
        copied.mode & 0o777,
        Math.abs(copied.mtimeMs - mtimeMs) < 2,
        await codeOfRejected(fs.cp(at('/d'), at('/x'))),
        await codeOfRejected(fs.cp(at('/none'), at('/x'))),
        await codeOfRejected(fs.cp(at('/d'), at('/d/e/x'), { recursive: true })),
        await codeOfRejected(fs.cp(at('/other'), at('/other'))),
        await codeOfRejected(fs.cp(at('/other'), at('/d'))),
        await codeOfRejected(fs.cp(at('/d'), at('/other'), { recursive: true })),
        await codeOfRejected(fs.cp(at('/d/e/file'), at('/other'), { force: false, errorOnExist: true })),
      ];
    }));

  it('of stat and statfs in bigints, and paths and lines that come back', () =>
    onBoth(async (fs, at) => {
      await fs.writeFile(at('/file'), 'one\ntwo\r\nthree');
      await fs.utimes(at('/file'), 1, 2.5);
      const { size, mtimeNs, mtimeMs } = await fs.stat(at('/file'), { bigint: true });
      const lines: string[] = [];
      for await (const line of (await fs.open(at('/file'))).readLines()) lines.push(line);
      const closed = await fs.open(at('/file'), 'r+');
      await closed.close();
      const codes = [];
      for (const use of [() => closed.writeFile(''), () => closed.readv([]), () => closed.writev([])])
        codes.push(await codeOfRejected(use()));
      const told = [];
      for (const failing of [
        () => fs.rename(at('/none'), at('/x')),
        () => fs.link(at('/none'), at('/x')),
        () => fs.symlink('target', at('/file')),
        () => fs.copyFile(at('/none'), at('/x')),
        () => fs.opendir(at('/none')),
        () => fs.utimes(at('/none'), 1, 1),
      ]) {
        const error = await failing().catch((failure: NodeJS.ErrnoException & { dest?: string }) => failure);
        assert.ok(error instanceof Error && 'code' in error);
        told.push(error.message.replaceAll(at('/'), '/'), error.syscall, error.dest?.replace(at('/'), '/'));
      }
      const space = Object.keys(await fs.statfs(at('/')));
      return [size, mtimeNs, mtimeMs, lines, codes, told, space];
    }));

  it('of reads: what no buffer can hold has a code', () =>
    withImage(async (image) => {
      await image.writeFile('/file', '');
      await image.truncate('/file', 2 ** 40);
      assert.equal(await codeOfRejected(image.readFile('/file')), 'ERR_FS_FILE_TOO_LARGE');
    }));

  it('of openImage', async () => {
    const bytes = makeImage(16, []).slice();
    for (const source of [undefined, null, {}, 5, Symbol('s'), { read() {} }])
      assert.equal(await codeOfRejected(openImage(source as unknown as OwnDevice)), 'ERR_INVALID_ARG_TYPE');
    const bad: readonly object[] = [
      { errors: 'bogus' },
      { owner: { uid: '1000', gid: 1 } },
      { owner: { uid: 1000, gid: -1 } },
      { commitIntervalMs: Number.NaN },
      { umask: 'x' },
    ];
    for (const options of bad) assert.match(await codeOfRejected(openImage(bytes, options)), /^ERR_/);
    const image = await openImage(bytes.buffer.slice(0, bytes.length) as ArrayBuffer, { umask: '077' });
    await image.writeFile('/file', '');
    assert.equal((await image.stat('/file')).mode & 0o777, 0o600);
    const stream = (await image.open('/file')).createReadStream();
    assert.equal((await buffer(stream)).length, 0);
    await image.close();
  });
});
