/** Memory is given back when the kernel says that it is short. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { FileDevice } from '../../src/block/file-device.js';
import { pressureFile } from '../../src/cli/server-memory.js';
import { Filesystem } from '../../src/ext4/filesystem.js';
import { EXT4_ROOT_INO } from '../../src/ext4/format/inode.js';
import { fsckFile, makeImageFile, withScratch } from '../support/mke2fs.js';
import { requireOrSkip } from '../support/server.js';

const CRED = { uid: 0, gid: 0 };
const nameOf = (i: number) => Buffer.from(`file${i}`);

// Memory is not to be short on the machine of a test; processors are soon.
const MACHINE = '/proc/pressure/cpu';
const TRIGGER = 'some 100000 2000000';

const sleep = (ms: number) => new Promise((done) => setTimeout(done, ms));

async function whileProcessorsAreWanted<T>(use: () => Promise<T>): Promise<T> {
  const busy = Array.from({ length: 16 }, () => spawn('sh', ['-c', 'while :; do :; done'], { stdio: 'ignore' }));
  try {
    return await use();
  } finally {
    for (const child of busy) child.kill('SIGKILL');
  }
}

/** Where control groups with pressure files can be made, or null. */
function controlGroups(): string | null {
  for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
    if (/ - cgroup2 /.test(line)) return line.split(' ')[4];
  }
  return null;
}

/** Runs `use` with a control group that it may remove. */
async function withControlGroup(test: Mocha.Context, use: (group: string) => Promise<void>): Promise<void> {
  const root = controlGroups();
  requireOrSkip(test, root === null || process.getuid?.() !== 0 ? 'no control groups of version 2, or not root' : null);
  const group = join(root ?? '', `ext4d-test-${process.pid}`);
  mkdirSync(group);
  try {
    requireOrSkip(test, existsSync(join(group, 'cpu.pressure')) ? null : 'control groups have no pressure files here');
    await use(group);
  } finally {
    if (existsSync(group)) rmdirSync(group);
  }
}

interface Heard {
  /** When it was told so far, in milliseconds. */
  calls: number[];
  cpuMs: number;
  /** Pressure files it has open. */
  files: string[];
}

/** A process of its own that runs `watch`, in which `tell` notes a call; `ask` is how it stands. */
async function withWatcher(watch: string, use: (ask: () => Promise<Heard>) => Promise<void>): Promise<void> {
  const script = `
    import { readdirSync, readlinkSync } from 'node:fs';
    import { createInterface } from 'node:readline';
    import { requireNative } from '${import.meta.resolve('../../src/native.js')}';
    import { whenMemoryIsShort } from '${import.meta.resolve('../../src/cli/server-memory.js')}';
    const calls = [];
    const tell = () => void calls.push(performance.now());
    const watch = (path) => requireNative().watchPressure(path, '${TRIGGER}', tell);
    const linkOf = (fd) => { try { return readlinkSync('/proc/self/fd/' + fd); } catch { return ''; } };
    ${watch};
    createInterface({ input: process.stdin }).on('line', () => {
      const { user, system } = process.cpuUsage();
      const files = readdirSync('/proc/self/fd').map(linkOf).filter((link) => link.includes('pressure'));
      console.log(JSON.stringify({ calls, cpuMs: (user + system) / 1000, files }));
    });`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['pipe', 'pipe', 'inherit'] });
  const closed = once(child, 'close');
  const timer = setTimeout(() => child.kill('SIGKILL'), 50_000);
  const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  try {
    await use(async () => {
      child.stdin.write('\n');
      const { value, done } = await answers.next();
      assert.ok(!done, 'the process that watches has ended');
      return JSON.parse(value) as Heard;
    });
  } finally {
    clearTimeout(timer);
    child.kill('SIGKILL');
    await closed;
  }
}

describe('pressure on memory', function () {
  this.timeout(60_000);

  it('makes the engine keep little, and lose nothing', () =>
    withScratch((scratch) => {
      const image = `${scratch}/image`;
      makeImageFile(image, 64, ['-N', '20000']);
      const fs = Filesystem.open(FileDevice.open(image), { cacheBytes: 4 << 20 });
      const { cache } = fs.volume;
      for (let i = 0; i < 10_000; i++) {
        fs.create(EXT4_ROOT_INO, nameOf(i), 0o100644, CRED);
        fs.endOfOperation();
      }
      const before = cache.cachedBlocks;
      fs.relieveMemory();
      fs.volume.journal.checkpointNow();
      fs.endOfOperation();
      assert.ok(cache.cachedBlocks < before / 2, `${before} blocks before, ${cache.cachedBlocks} after`);
      for (let i = 0; i < 10_000; i += 97) assert.notEqual(fs.lookup(EXT4_ROOT_INO, nameOf(i)), 0);
      fs.closeSync();
      const { code, output } = fsckFile(image);
      assert.equal(code, 0, output);
    }));

  it('is told by the kernel', async function () {
    requireOrSkip(this, existsSync(MACHINE) ? null : 'this kernel has no pressure stall information');
    assert.ok(readFileSync(pressureFile(), 'utf8').startsWith('some '));
    await withWatcher(`watch('${MACHINE}')`, (ask) =>
      whileProcessorsAreWanted(async () => {
        const deadline = Date.now() + 20_000;
        while ((await ask()).calls.length === 0) {
          assert.ok(Date.now() < deadline, 'nobody said that processors are wanted by more than there are');
          await sleep(100);
        }
      }),
    );
  });

  it('is not told of a second time within a second, whoever tells', async function () {
    requireOrSkip(this, existsSync(MACHINE) ? null : 'this kernel has no pressure stall information');
    await withWatcher(`watch('${MACHINE}'); watch('${MACHINE}')`, async (ask) => {
      assert.equal((await ask()).files.length, 2);
      await whileProcessorsAreWanted(() => sleep(9000));
      const { calls } = await ask();
      assert.ok(calls.length >= 2, `${calls.length} calls in nine seconds`);
      for (let i = 1; i < calls.length; i++) assert.ok(calls[i] - calls[i - 1] >= 999, `calls at ${calls.join(', ')}`);
    });
  });

  it('leaves a process alone whose control group has gone', async function () {
    await withControlGroup(this, (group) =>
      withWatcher(`watch('${group}/memory.pressure')`, async (ask) => {
        const before = await ask();
        assert.deepEqual(before.files, [join(group, 'memory.pressure')]);
        rmdirSync(group);
        await sleep(2000);
        const after = await ask();
        assert.equal(after.calls.length, 0);
        assert.ok(after.cpuMs - before.cpuMs < 500, `${after.cpuMs - before.cpuMs} ms of processor time`);
        assert.deepEqual(after.files, []);
      }),
    );
  });

  it('is heard of in the control group and in the machine, and in the machine when the group has gone', async function () {
    await withControlGroup(this, (group) => {
      const own = join(group, 'cpu.pressure');
      return withWatcher(`whenMemoryIsShort(tell, ['${own}', '${MACHINE}'])`, async (ask) => {
        assert.deepEqual((await ask()).files.sort(), [MACHINE, own]);
        rmdirSync(group);
        await sleep(500);
        const { calls, files } = await ask();
        assert.deepEqual(files, [MACHINE]);
        await whileProcessorsAreWanted(async () => {
          const deadline = Date.now() + 20_000;
          while ((await ask()).calls.length === calls.length) {
            assert.ok(Date.now() < deadline, 'the machine was not heard of any more');
            await sleep(100);
          }
        });
      });
    });
  });
});
