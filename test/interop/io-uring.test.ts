/**
 * FUSE over io_uring (decision 14), where the kernel has it: the same filesystem, with requests that come another way, wait in
 * buffers of their own, and are answered by whichever thread has the answer.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  existsSync,
  fsyncSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { mustBeClean } from '../support/clean.js';
import { alignedBuffer, O_DIRECT } from '../support/direct-io.js';
import { makeImageFile } from '../support/mke2fs.js';
import { EXT4D, Mount, requireOrSkip, skip, whyNoFuse, withMount, withMountpoint } from '../support/server.js';

const SERVER = join(dirname(fileURLToPath(import.meta.url)), '../support/fake-server.js');
const SWITCH = '/sys/module/fuse/parameters/enable_uring';

const run = (script: string, ...args: string[]) =>
  spawnSync('sh', ['-euc', script, ...args], { encoding: 'utf8', timeout: 60_000 });

const ended = (child: ChildProcess) => new Promise<number | null>((done) => child.once('close', done));

const pause = (ms: number) => new Promise((done) => setTimeout(done, ms));

function ringBehind(link: string): boolean {
  try {
    return readlinkSync(link).includes('io_uring');
  } catch {
    // Closed meanwhile.
    return false;
  }
}

const withRing = (image: string, mountpoint: string, use: (mount: Mount) => Promise<void> | void) =>
  withMount(image, mountpoint, 'io_uring', async (mount) => {
    // Answered when the kernel has been told of the ring, or this process of its lack.
    readdirSync(mountpoint);
    await pause(20);
    assert.equal(mount.stderr, '', 'no ring');
    await use(mount);
  });

describe('requests over io_uring', function () {
  this.timeout(120_000);
  let switchBefore = 'N';

  before(function () {
    const test = this as unknown as Mocha.Context;
    requireOrSkip(test, whyNoFuse());
    if (!existsSync(SWITCH)) skip(test, 'this kernel has no FUSE over io_uring');
    if (process.getuid?.() !== 0) requireOrSkip(test, `setting ${SWITCH} needs root`);
    switchBefore = readFileSync(SWITCH, 'utf8').trim();
    writeFileSync(SWITCH, 'Y');
  });
  after(() => {
    if (existsSync(SWITCH) && process.getuid?.() === 0) writeFileSync(SWITCH, switchBefore);
  });

  it('have a ring, and where the kernel has none they come by /dev/fuse, which is told with what to do', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 16);
      const rings = (pid: number) =>
        readdirSync(`/proc/${pid}/fd`).filter((fd) => ringBehind(`/proc/${pid}/fd/${fd}`)).length;
      let without = 0;
      await withMount(image, mountpoint, '', ({ pid }) => {
        without = rings(pid);
      });
      await withRing(image, mountpoint, ({ pid }) => assert.equal(rings(pid), without + 1));
      writeFileSync(SWITCH, 'N');
      try {
        await withMount(image, mountpoint, 'io_uring', async (mount) => {
          readdirSync(mountpoint);
          await pause(20);
          assert.match(mount.stderr, /requests come by \/dev\/fuse: .*enable_uring/);
          assert.equal(rings(mount.pid), without);
          writeFileSync(join(mountpoint, 'file'), 'content');
        });
      } finally {
        writeFileSync(SWITCH, 'Y');
      }
      mustBeClean(image);
    }));

  it('make, list, read and remove a tree of files, with names, links and attributes of every length', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 128);
      const script = `
        cp -r "$1" "$0/a" && diff -r "$1" "$0/a"
        cd "$0"
        for i in 1 2 3 50 100 200 255; do
          n=$(head -c $i /dev/zero | tr '\\0' n)
          touch "$n"; mkdir "$n.d" 2>/dev/null || true; ln -s "$n" "s$i"; test "$(readlink "s$i")" = "$n"
          setfattr -n user.x -v "$n" "$n" && test "$(getfattr --only-values -n user.x "$n")" = "$n"
          mv "$n" moved && ln moved "$n" && mv moved "o$i"
        done
        mv a b && rm -r b && test ! -e a && test ! -e b`;
      await withRing(image, mountpoint, () => {
        const { status, stderr } = run(script, mountpoint, join(EXT4D, '../../src'));
        assert.equal(status, 0, stderr);
        writeFileSync(join(mountpoint, 'many'), 'x');
        for (let i = 0; i < 3000; i++) closeSync(openSync(join(mountpoint, `file-${i}`), 'wx'));
        assert.equal(readdirSync(mountpoint).filter((name) => name.startsWith('file-')).length, 3000);
      });
      mustBeClean(image);
    }));

  it('carry data of any size, direct and through the page cache, by several callers at once', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 256);
      const at = (name: string) => join(mountpoint, name);
      const contents = [1, 100, 4096, 65_537, 1 << 20, (5 << 20) + 123].map((length) => randomBytes(length));
      await withRing(image, mountpoint, () => {
        for (const [i, bytes] of contents.entries()) writeFileSync(at(`file${i}`), bytes);
        const fd = openSync(at('direct'), constants.O_RDWR | constants.O_CREAT | O_DIRECT);
        const block = alignedBuffer(1 << 20);
        for (let i = 0; i < 8; i++) {
          block.fill(i + 1);
          assert.equal(writeSync(fd, block, 0, block.length, i * block.length), block.length);
        }
        fsyncSync(fd);
        for (let i = 0; i < 8; i++) {
          assert.equal(readSync(fd, block, 0, block.length, i * block.length), block.length);
          assert.ok(block.every((byte) => byte === i + 1));
        }
        closeSync(fd);
        const jobs =
          'for i in 1 2 3 4 5 6; do (for j in 0 1 2 3 4 5; do cmp "$0/file$j" "$0/file$j"; done; dd if=/dev/urandom of="$0/w$i" bs=37k count=40 conv=fsync status=none; cmp "$0/w$i" "$0/w$i") & done; wait';
        assert.equal(run(jobs, mountpoint).stderr, '');
      });
      mustBeClean(image);
      await withRing(image, mountpoint, () => {
        for (const [i, bytes] of contents.entries()) assert.ok(readFileSync(at(`file${i}`)).equals(bytes), `file${i}`);
      });
    }));

  it('wait in their buffers while the filesystem is frozen, more of them than one processor has, and readers go on', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 64);
      await withRing(image, mountpoint, async () => {
        writeFileSync(join(mountpoint, 'there'), 'content');
        assert.equal(spawnSync(EXT4D, ['freeze', mountpoint]).status, 0);
        const writers = Array.from({ length: 40 }, (_, i) =>
          spawn('sh', ['-c', 'echo content > "$0"', join(mountpoint, `waiting${i}`)], { stdio: 'ignore' }),
        );
        const all = Promise.all(writers.map(ended));
        await pause(500);
        assert.equal(run('timeout 10 cat "$0/there"', mountpoint).stdout, 'content');
        assert.equal(spawnSync(EXT4D, ['thaw', mountpoint]).status, 0);
        assert.deepEqual(await all, Array(40).fill(0));
        for (let i = 0; i < 40; i++) assert.equal(readFileSync(join(mountpoint, `waiting${i}`), 'utf8'), 'content\n');
      });
      mustBeClean(image);
    }));

  it('keep what is in their buffers while memory is short', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const disk = join(scratch, 'disk');
      closeSync(openSync(disk, 'w'));
      truncateSync(disk, 512 << 20);
      const server = spawn(process.execPath, [SERVER, disk, mountpoint, JSON.stringify({ ioUring: true })], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const over = ended(server);
      try {
        await new Promise((ready) => server.stdout?.once('data', ready));
        // Without end, beside writers whose data is compared once it has left every cache.
        const script = `
          (while kill -USR2 "$1"; do sleep 0.002; done) 2>/dev/null & pressing=$!
          cd "$0"; writers=
          for i in 1 2 3 4; do
            (head -c 8388608 /dev/urandom > f$i; sum=$(md5sum < f$i)
             for j in 1 2 3; do
               dd if=f$i of=g$i bs=300k conv=fsync status=none
               dd if=g$i iflag=direct bs=1M status=none | md5sum | grep -q "\${sum%% *}" || echo "$i: $j differs"
             done) &
            writers="$writers $!"
          done
          wait $writers; kill $pressing`;
        const { stdout, stderr } = run(script, mountpoint, String(server.pid));
        assert.equal(stdout + stderr, '');
      } finally {
        spawnSync('umount', [mountpoint]);
        await Promise.race([over, pause(10_000)]);
        server.kill('SIGKILL');
      }
    }));

  it('lose nothing that was synced when the server is killed', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 64);
      const bytes = randomBytes(300_000);
      for (let round = 0; round < 3; round++) {
        const mount = await Mount.start(image, mountpoint, 'io_uring');
        try {
          const name = join(mountpoint, `kept${round}`);
          writeFileSync(name, bytes, { flush: true } as object);
          const fd = openSync(name, 'r');
          fsyncSync(fd);
          const churn = spawn('sh', ['-c', 'while echo x > "$0/a$$"; do mv "$0/a$$" "$0/b$$"; done', mountpoint], {
            stdio: 'ignore',
          });
          await pause(300);
          await mount.kill();
          closeSync(fd);
          churn.kill('SIGKILL');
        } finally {
          mount.cleanUp();
        }
      }
      await withRing(image, mountpoint, () => {
        for (let round = 0; round < 3; round++)
          assert.ok(readFileSync(join(mountpoint, `kept${round}`)).equals(bytes), `round ${round}`);
      });
      mustBeClean(image);
    }));
});
