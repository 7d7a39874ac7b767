/** The library against e2fsck, debugfs, and Node's own fs. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import * as nodeFs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import fc from 'fast-check';
import {
  FsError,
  type Image,
  ImageError,
  MemoryDevice,
  openImage,
  replayImage,
  UnsupportedError,
} from '../../../src/index.js';
import { fsck, makeImage, makeImageFile, run } from '../../support/mke2fs.js';
import { checkAsyncProperty } from '../../support/property.js';

async function withImage(
  use: (image: Image) => Promise<void>,
  args: readonly string[] = ['-b', '1024'],
  sizeMiB = 16,
): Promise<Uint8Array> {
  const bytes = makeImage(sizeMiB, args).slice();
  const image = await openImage(bytes);
  await use(image);
  assert.deepEqual(await image.check(), []);
  await image.close();
  const { code, output } = fsck(bytes);
  assert.equal(code, 0, output);
  return bytes;
}

/** A file with these bytes, until the process ends. */
function writtenTo(bytes: Uint8Array): string {
  const path = join(mkdtempSync(join(tmpdir(), 'ext4d-library-')), 'image');
  process.once('exit', () => rmSync(dirname(path), { recursive: true, force: true }));
  writeFileSync(path, bytes);
  return path;
}

const rejects = (work: Promise<unknown>, code: string, syscall?: string) =>
  assert.rejects(work, (error) => {
    assert.ok(error instanceof ImageError, String(error));
    assert.equal(error.code, code);
    assert.ok(error.errno < 0);
    if (syscall !== undefined) assert.equal(error.syscall, syscall);
    return true;
  });

describe('an image opened as a library', function () {
  this.timeout(60_000);

  it('keeps files, directories, links, owners, times and attributes, and is clean when it is closed', async () => {
    const content = Buffer.from('some content '.repeat(5000));
    const bytes = await withImage(async (image) => {
      await image.mkdir('/a/b/c', { recursive: true });
      await image.writeFile('/a/b/c/file', content, { mode: 0o600 });
      await image.appendFile('/a/b/c/file', 'end');
      await image.symlink('b/c/file', '/a/link');
      await image.link('/a/b/c/file', '/hard');
      await image.mknod('/fifo', 0o010644);
      await image.chown('/hard', 12, 34);
      await image.utimes('/hard', 1_000_000_000.5, new Date(2_000_000_000_000));
      await image.setxattr('/hard', 'user.key', 'value');
      await image.rename('/a/b/c', '/moved');
      assert.equal(await image.readlink('/a/link'), 'b/c/file');
      await rejects(image.readFile('/a/link'), 'ENOENT', 'open');
      const stats = await image.stat('/hard');
      assert.equal(stats.nlink, 2);
      assert.equal(stats.uid, 12);
      assert.equal(stats.mode & 0o7777, 0o600);
      assert.equal(stats.atimeMs, 1_000_000_000_500);
      assert.equal(stats.mtime.getTime(), 2_000_000_000_000);
      assert.equal((await image.getxattr('/hard', 'user.key'))?.toString(), 'value');
      assert.deepEqual(await image.listxattr('/hard'), ['user.key']);
      assert.equal(await image.getxattr('/hard', 'user.other'), null);
      assert.ok((await image.lstat('/fifo')).isFIFO());
      assert.equal(await image.readFile('/moved/file', 'utf8'), `${content}end`);
    });
    const scratch = mkdtempSync(join(tmpdir(), 'ext4d-library-'));
    try {
      writeFileSync(join(scratch, 'image'), bytes);
      assert.match(run('debugfs', ['-R', 'stat /moved/file', join(scratch, 'image')]).output, /Links: 2/);
      run('debugfs', ['-R', `dump /moved/file ${join(scratch, 'out')}`, join(scratch, 'image')]);
      assert.ok(readFileSync(join(scratch, 'out')).equals(Buffer.concat([content, Buffer.from('end')])));
    } finally {
      rmSync(scratch, { recursive: true, force: true });
    }
  });

  it('lists and walks directories, and removes trees', () =>
    withImage(async (image) => {
      for (const name of ['x', 'y/z', 'y/w/v']) {
        await image.mkdir(`/top/${name}`, { recursive: true });
        await image.writeFile(`/top/${name}/file`, name);
      }
      await image.symlink('/top', '/top/loop');
      assert.deepEqual((await image.readdir('/top')).sort(), ['loop', 'x', 'y']);
      const all = (await image.readdir('/top', { recursive: true })).sort();
      assert.deepEqual(all, ['loop', 'x', 'x/file', 'y', 'y/w', 'y/w/v', 'y/w/v/file', 'y/z', 'y/z/file']);
      const files: string[] = [];
      for await (const [path, entry] of image.walk('/top')) if (entry.isFile()) files.push(path);
      assert.deepEqual(files.sort(), ['/top/x/file', '/top/y/w/v/file', '/top/y/z/file']);
      await rejects(image.rmdir('/top'), 'ENOTEMPTY', 'rmdir');
      await rejects(image.rm('/top'), 'EISDIR', 'rm');
      await image.rm('/top', { recursive: true });
      await image.rm('/top', { force: true });
      assert.deepEqual(await image.readdir('/'), ['lost+found']);
    }));

  it('streams in both directions', () =>
    withImage(async (image) => {
      const content = Buffer.from(Array.from({ length: 3_000_000 }, (_, i) => i % 251));
      const out = await image.open('/file', 'w');
      await pipeline([content.subarray(0, 1_000_001), content.subarray(1_000_001)], out.createWriteStream());
      const pieces: Buffer[] = [];
      const input = await image.open('/file');
      for await (const piece of input.createReadStream({ start: 10, end: 2_000_000 })) pieces.push(piece as Buffer);
      assert.ok(Buffer.concat(pieces).equals(content.subarray(10, 2_000_001)));
    }));

  it('resolves links inside the image only, and says what is wrong with a path', () =>
    withImage(async (image) => {
      await image.mkdir('/d');
      await image.writeFile('/d/file', 'inside');
      await image.symlink('/d', '/absolute');
      await image.symlink('../../../../d/file', '/d/up');
      await image.symlink('self', '/self');
      assert.equal(await image.readFile('/absolute/file', 'utf8'), 'inside');
      assert.equal(await image.readFile('/d/up', 'utf8'), 'inside');
      assert.equal(await image.readFile('/../../d/./file', 'utf8'), 'inside');
      await rejects(image.readFile('/self'), 'ELOOP', 'open');
      await rejects(image.readFile('/d/file/below'), 'ENOTDIR', 'open');
      await rejects(image.readFile('/none/below'), 'ENOENT', 'open');
      await rejects(image.writeFile(`/${'n'.repeat(256)}`, ''), 'ENAMETOOLONG', 'open');
      await rejects(image.writeFile('/d', ''), 'EISDIR', 'open');
      await rejects(image.writeFile('/d/file', '', { flag: 'wx' }), 'EEXIST', 'open');
      await rejects(image.rename('/d', '/d/below'), 'EINVAL', 'rename');
      await rejects(image.rename('/d', '/absolute', { noReplace: true }), 'EEXIST', 'rename');
      await image.rename('/d', '/absolute', { exchange: true });
      assert.equal(await image.readFile('/absolute/file', 'utf8'), 'inside');
    }));

  it('lets an unlinked file live until it is closed', () =>
    withImage(async (image) => {
      const before = (await image.statfs()).bfree;
      const handle = await image.open('/file', 'w+');
      await handle.write(Buffer.alloc(500_000, 'x'));
      await image.unlink('/file');
      await handle.write('still', 0);
      const { buffer } = await handle.read(Buffer.alloc(5), { position: 0 });
      assert.equal(buffer.toString(), 'still');
      assert.ok((await image.statfs()).bfree < before - 400);
      await handle.close();
      assert.equal((await image.statfs()).bfree, before);
      await rejects(handle.write('x'), 'EBADF');
    }));

  it('has what was synced in the log: a program that dies leaves an image that replays', async () => {
    const bytes = makeImage(16, ['-b', '1024']).slice();
    const image = await openImage(bytes);
    await image.writeFile('/synced', 'synced', { flush: true });
    const handle = await image.open('/');
    await handle.sync();
    await image.writeFile('/not-synced', 'x');
    const crashed = bytes.slice();
    await image.close();
    const seen = await openImage(crashed.slice(), { readOnly: true });
    assert.equal(await seen.readFile('/synced', 'utf8'), 'synced');
    await seen.close();
    const report = await replayImage(crashed);
    assert.equal(report.state, 'recovered');
    const again = await openImage(crashed);
    assert.equal(await again.readFile('/synced', 'utf8'), 'synced');
    await again.close();
    assert.equal(fsck(crashed).code, 0);
  });

  it('takes ranges out of files, puts holes into them, and allocates', async () => {
    const block = (letter: string) => Buffer.alloc(1024, letter);
    await withImage(async (image) => {
      const handle = await image.open('/file', 'w+');
      await handle.write(Buffer.concat([block('a'), block('b'), block('c'), Buffer.from('end')]));
      await handle.fallocate('collapse-range', 1024, 1024);
      await handle.fallocate('insert-range', 0, 2048);
      const hole = Buffer.alloc(2048);
      const expected = Buffer.concat([hole, block('a'), block('c'), Buffer.from('end')]);
      assert.deepEqual(await image.readFile('/file'), expected);
      await handle.fallocate('punch-hole', 2048, 1024);
      await handle.fallocate('zero-range', 3072, 1);
      await handle.fallocate('allocate', 0, 10_000);
      await handle.fallocate('allocate-keep-size', 0, 20_000);
      const { size, blocks } = await handle.stat();
      assert.deepEqual([size, blocks], [10_000, 40]);
      await rejects(handle.fallocate('collapse-range', 0, 100), 'EINVAL', 'fallocate');
      await rejects(handle.fallocate('collapse-range', 0, 10_240), 'EINVAL', 'fallocate');
      await rejects(handle.fallocate('insert-range', 10_240, 1024), 'EINVAL', 'fallocate');
      await assert.rejects(handle.fallocate('turn-around' as 'allocate', 0, 1024), { code: 'ERR_INVALID_ARG_VALUE' });
      await handle.close();
      const reader = await image.open('/file');
      await rejects(reader.fallocate('insert-range', 0, 1024), 'EBADF', 'fallocate');
      await reader.close();
    });
    await withImage(
      async (image) => {
        await using handle = await image.open('/file', 'w+');
        await handle.write(block('a'));
        await rejects(handle.fallocate('insert-range', 0, 1024), 'EOPNOTSUPP', 'fallocate');
      },
      ['-b', '1024', '-t', 'ext3'],
    );
  });

  it('waits for space that only needs a commit', () =>
    withImage(async (image) => {
      const { bfree, bsize } = await image.statfs();
      const most = Buffer.alloc(Math.floor(bfree * bsize * 0.6), 'm');
      for (let round = 0; round < 4; round++) await image.writeFile('/most', most);
      await rejects(image.writeFile('/more', most), 'ENOSPC', 'write');
      await image.unlink('/more');
    }));

  it('says by name what it does not support, and what is no image', async () => {
    // compression: a feature that was never finished
    const unknown = makeImage(8, ['-O', '^metadata_csum']).slice();
    unknown[1024 + 0x60] |= 1;
    await assert.rejects(openImage(unknown), (error) => {
      assert.ok(error instanceof UnsupportedError);
      assert.deepEqual(error.features, ['compression']);
      return true;
    });
    await rejects(openImage(new Uint8Array(1 << 20)), 'EUCLEAN', 'open');
    await rejects(openImage('/no/such/image'), 'ENOENT', 'open');
    const readOnly = await openImage(new MemoryDevice(makeImage(8, ['-O', 'verity']).slice()));
    assert.ok(readOnly.readOnly);
    assert.match(readOnly.readOnlyReasons.join(), /verity/);
    await rejects(readOnly.writeFile('/x', ''), 'EROFS', 'open');
    await readOnly.close();
  });

  it('reads and writes where Node does, however that is said', () =>
    withImage(async (image) => {
      const scratch = mkdtempSync(join(tmpdir(), 'ext4d-library-'));
      try {
        const ours = await image.open('/file', 'w+');
        const theirs = await nodeFs.open(join(scratch, 'file'), 'w+');
        for (const handle of [ours, theirs] as Pick<nodeFs.FileHandle, 'write' | 'read' | 'writev' | 'readv'>[]) {
          await handle.write(Buffer.from('0123456789'));
          await handle.write(Buffer.from('abcdef'), 2, 3, 1);
          await handle.write('ÄÖ', 6, 'latin1');
          await handle.write('end');
          await handle.writev([Buffer.from('<'), Buffer.from('>')], 20);
        }
        const wanted = await theirs.readFile();
        assert.deepEqual(await image.readFile('/file'), readFileSync(join(scratch, 'file')));
        assert.deepEqual(await ours.readFile(), wanted, 'the position is the same as well');
        for (const args of [[2, 4, 3], [{ offset: 1, length: 2, position: 5 }], [0, 5, null]] as unknown as [
          number,
        ][]) {
          const [a, b] = [Buffer.alloc(8, '.'), Buffer.alloc(8, '.')];
          const { bytesRead } = await ours.read(a, ...args);
          assert.equal(bytesRead, (await theirs.read(b, ...args)).bytesRead);
          assert.deepEqual(a, b);
        }
        await assert.rejects(ours.read(Buffer.alloc(4), 2, 4), { code: 'ERR_OUT_OF_RANGE' });
        await Promise.all([ours.close(), theirs.close()]);
      } finally {
        rmSync(scratch, { recursive: true, force: true });
      }
    }));

  it('leaves directories alone that are named by a dot', () =>
    withImage(async (image) => {
      await image.mkdir('/d');
      await rejects(image.rmdir('/d/.'), 'EINVAL', 'rmdir');
      await rejects(image.rmdir('/d/..'), 'ENOTEMPTY', 'rmdir');
      await rejects(image.rmdir('/'), 'EBUSY', 'rmdir');
      await rejects(image.unlink('/d/.'), 'EISDIR', 'unlink');
      await rejects(image.rename('/d/.', '/e'), 'EBUSY', 'rename');
      assert.deepEqual((await image.readdir('/')).sort(), ['d', 'lost+found']);
    }));

  it('lets new files inherit the default ACL of their directory', () =>
    withImage(async (image) => {
      // u::rwx u:7:rwx g::r-x m::rwx o::---
      const acl = Buffer.from(
        '02000000' +
          '01000700ffffffff' +
          '0200070007000000' +
          '04000500ffffffff' +
          '10000700ffffffff' +
          '20000000ffffffff',
        'hex',
      );
      await image.mkdir('/d');
      await image.setxattr('/d', 'system.posix_acl_default', acl);
      await image.writeFile('/d/file', 'x', { mode: 0o640 });
      assert.equal((await image.stat('/d/file')).mode & 0o777, 0o640);
      const own = await image.getxattr('/d/file', 'system.posix_acl_access');
      assert.equal(own?.readUInt16LE(4 + 8 * 3 + 2), 4, 'the mask is what the mode gives the group');
      await image.chmod('/d', 0o2755);
      await image.mkdir('/d/e');
      assert.equal((await image.stat('/d/e')).mode & 0o2000, 0o2000, 'and the setgid bit beside it');
      assert.deepEqual(await image.getxattr('/d/e', 'system.posix_acl_default'), acl);
    }));

  it('tells at close that its journal was aborted, and applies errors= to what is corrupt', async () => {
    const bytes = makeImage(16, ['-b', '1024', '-e', 'remount-ro']).slice();
    const image = await openImage(bytes);
    await image.writeFile('/file', 'x');
    await image.close();
    const table = Number(/Inode table at (\d+)/.exec(run('dumpe2fs', [writtenTo(bytes)]).output)?.[1]);
    bytes.fill(0xff, (table + 2) * 1024, (table + 4) * 1024);
    const lines: string[] = [];
    const damaged = await openImage(bytes, { log: (line) => lines.push(line) });
    await rejects(damaged.stat('/file'), 'EUCLEAN', 'stat');
    assert.match(lines.join('\n'), /corrupt .*remount-ro/s);
    assert.ok(damaged.readOnly);
    await damaged.close();

    class Broken extends MemoryDevice {
      broken = false;
      override write(offset: number, from: Uint8Array): void {
        if (this.broken) throw new FsError('EIO', 'broken');
        super.write(offset, from);
      }
    }
    const device = new Broken(makeImage(16, ['-b', '1024']).slice());
    const failing = await openImage(device);
    await failing.mkdir('/d');
    device.broken = true;
    await rejects(failing.sync(), 'EIO', 'sync');
    await rejects(failing.close(), 'EIO', 'close');
  });

  it('locks a file while it is open, and is a disposable', async () => {
    const scratch = mkdtempSync(join(tmpdir(), 'ext4d-library-'));
    const path = join(scratch, 'image');
    try {
      makeImageFile(path, 8);
      {
        await using image = await openImage(path);
        await image.writeFile('/file', 'x');
        await rejects(openImage(path), 'EBUSY', 'open');
      }
      await using image = await openImage(path, { readOnly: true });
      assert.equal(await image.readFile('/file', 'utf8'), 'x');
    } finally {
      rmSync(scratch, { recursive: true, force: true });
    }
  });

  it('does what node:fs does, whatever the order of operations', async () => {
    const names = fc.constantFrom('a', 'b', 'd', 'd/a', 'd/e', 'd/e/b');
    const data = fc.integer({ min: 0, max: 9000 }).map((size) => Buffer.alloc(size, `${size} `));
    const step = fc.oneof(
      fc.record({ op: fc.constant('writeFile' as const), path: names, data }),
      fc.record({ op: fc.constant('appendFile' as const), path: names, data }),
      fc.record({ op: fc.constant('mkdir' as const), path: names }),
      fc.record({ op: fc.constant('unlink' as const), path: names }),
      fc.record({ op: fc.constant('rmdir' as const), path: names }),
      fc.record({ op: fc.constant('rename' as const), path: names, to: names }),
      fc.record({ op: fc.constant('link' as const), path: names, to: names }),
      fc.record({ op: fc.constant('symlink' as const), path: names, to: names }),
      fc.record({ op: fc.constant('truncate' as const), path: names, size: fc.integer({ min: 0, max: 9000 }) }),
      fc.record({ op: fc.constant('readFile' as const), path: names }),
    );
    type Step = typeof step extends fc.Arbitrary<infer S> ? S : never;
    const perform = async (fs: Pick<Image, Step['op']>, base: string, step: Step): Promise<string> => {
      const at = (path: string) => `${base}/${path}`;
      try {
        switch (step.op) {
          case 'writeFile':
          case 'appendFile':
            await fs[step.op](at(step.path), step.data);
            return 'done';
          case 'rename':
          case 'link':
            await fs[step.op](at(step.path), at(step.to));
            return 'done';
          case 'symlink':
            await fs.symlink(step.path, at(step.to));
            return 'done';
          case 'truncate':
            await fs.truncate(at(step.path), step.size);
            return 'done';
          case 'readFile':
            return (await fs.readFile(at(step.path))).toString('hex');
          default:
            await fs[step.op](at(step.path));
            return 'done';
        }
      } catch (error) {
        return (error as NodeJS.ErrnoException).code ?? String(error);
      }
    };
    const tree = async (directory: string, prefix = '', found = new Map<string, string>()) => {
      for (const name of readdirSync(directory)) {
        const stats = await nodeFs.lstat(join(directory, name));
        found.set(prefix + name, `${stats.mode} ${stats.isFile() ? readFileSync(join(directory, name), 'hex') : ''}`);
        if (stats.isDirectory()) await tree(join(directory, name), `${prefix}${name}/`, found);
      }
      return found;
    };
    await checkAsyncProperty(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        const scratch = mkdtempSync(join(tmpdir(), 'ext4d-library-'));
        try {
          const bytes = makeImage(8, ['-b', '1024']).slice();
          const image = await openImage(bytes);
          await image.mkdir('/top');
          const mirror = join(scratch, 'top');
          await nodeFs.mkdir(mirror);
          for (const each of steps) {
            const expected = await perform(nodeFs as unknown as Pick<Image, Step['op']>, mirror, each);
            assert.equal(await perform(image, '/top', each), expected, JSON.stringify(each));
          }
          const wanted = await tree(mirror);
          const found = new Map<string, string>();
          for await (const [path, entry] of image.walk('/top')) {
            const { mode } = await image.lstat(path);
            found.set(path.slice(5), `${mode} ${entry.isFile() ? (await image.readFile(path)).toString('hex') : ''}`);
          }
          assert.deepEqual([...found].sort(), [...wanted].sort());
          await image.close();
          assert.equal(fsck(bytes).code, 0);
        } finally {
          rmSync(scratch, { recursive: true, force: true });
        }
      }),
      { numRuns: 60 },
    );
  });
});
