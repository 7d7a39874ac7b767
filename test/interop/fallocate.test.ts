/** fallocate in every mode, next to the kernel's ext4: the same answers, the same sizes and bytes; each reads what the other left. */
import assert from 'node:assert/strict';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type AllocationMode, type FileHandle, type Image, ImageError, openImage } from '../../src/index.js';
import { mustBeClean } from '../support/clean.js';
import { makeImageFile, run } from '../support/mke2fs.js';
import { requireOrSkip, whyNoKernelExt4, withKernelMount, withMountpoint } from '../support/server.js';
import { generator } from '../unit/ext4/volume-fixture.js';

const FORMATS = [
  { name: '1k blocks', unit: 1024, args: ['-b', '1024'] },
  { name: '4k blocks', unit: 4096, args: ['-b', '4096'] },
  { name: '1k blocks, 8k clusters', unit: 8192, args: ['-b', '1024', '-O', 'bigalloc', '-C', '8192'] },
  { name: 'a block map', unit: 1024, args: ['-b', '1024', '-t', 'ext3'] },
];
const STEPS = 250;
const FILES = 3;
const LARGEST = 1 << 20;

type Step =
  | { readonly op: 'write'; readonly file: number; readonly pos: number; readonly length: number }
  | { readonly op: 'truncate'; readonly file: number; readonly pos: number; readonly length: number }
  | {
      readonly op: 'fallocate';
      readonly mode: AllocationMode;
      readonly file: number;
      readonly pos: number;
      readonly length: number;
    };

const MODES: Readonly<Record<AllocationMode, number>> = {
  allocate: 0,
  'allocate-keep-size': 1,
  'punch-hole': 3,
  'collapse-range': 8,
  'zero-range': 0x10,
  'zero-range-keep-size': 0x11,
  'insert-range': 0x20,
};

/** Mostly moves, mostly of whole clusters; some at the limits of what a file can be. */
function randomSteps(unit: number, seed: number): Step[] {
  const random = generator(seed);
  const modes = Object.keys(MODES) as AllocationMode[];
  return Array.from({ length: STEPS }, () => {
    const file = random(FILES);
    const pos = random(30) * unit + (random(4) === 0 ? random(unit) : 0);
    const length = (1 + random(5)) * unit;
    const choice = random(10);
    if (choice < 3) return { op: 'write', file, pos, length: 1 + random(length) };
    if (choice === 3) return { op: 'truncate', file, pos, length };
    const mode = choice < 8 ? (['collapse-range', 'insert-range'] as const)[random(2)] : modes[random(modes.length)];
    if (random(30) === 0) return { op: 'fallocate', mode, file, pos, length: 2 ** 44 };
    return { op: 'fallocate', mode, file, pos, length: length + (random(12) === 0 ? 1 : 0) };
  });
}

/** Prints what each step came to, and the size of the file then. */
const ON_THE_KERNEL = `
import ctypes, errno, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
steps, modes = json.load(sys.stdin)
files = [os.open(f"{sys.argv[1]}/file{i}", os.O_RDWR | os.O_CREAT) for i in range(${FILES})]
for number, step in enumerate(steps):
    fd, size, result = files[step["file"]], os.fstat(files[step["file"]]).st_size, "done"
    if step["op"] == "write":
        os.pwrite(fd, bytes([1 + number % 255]) * step["length"], step["pos"])
    elif step["op"] == "truncate":
        os.ftruncate(fd, step["pos"])
    elif step["mode"] == "insert-range" and size + step["length"] > ${LARGEST} and step["length"] < 2 ** 40:
        result = "too large"
    elif libc.fallocate(fd, modes[step["mode"]], step["pos"], step["length"]) != 0:
        result = errno.errorcode[ctypes.get_errno()].replace("ENOTSUP", "EOPNOTSUPP")
    print(result, os.fstat(fd).st_size)
`;

async function take(handle: FileHandle, step: Step, number: number): Promise<string> {
  if (step.op === 'write') await handle.write(Buffer.alloc(step.length, 1 + (number % 255)), 0, null, step.pos);
  else if (step.op === 'truncate') await handle.truncate(step.pos);
  else if (step.mode === 'insert-range' && step.length < 2 ** 40) {
    if ((await handle.stat()).size + step.length > LARGEST) return 'too large';
    await handle.fallocate(step.mode, step.pos, step.length);
  } else await handle.fallocate(step.mode, step.pos, step.length);
  return 'done';
}

/** The same through the library. */
async function onTheLibrary(image: Image, steps: readonly Step[]): Promise<string[]> {
  const handles: FileHandle[] = [];
  const results: string[] = [];
  for (let i = 0; i < FILES; i++) {
    await image.appendFile(`/file${i}`, '');
    handles.push(await image.open(`/file${i}`, 'r+'));
  }
  for (const [number, step] of steps.entries()) {
    const handle = handles[step.file];
    let result: string;
    try {
      result = await take(handle, step, number);
    } catch (error) {
      if (!(error instanceof ImageError)) throw error;
      result = error.code;
    }
    results.push(`${result} ${(await handle.stat()).size}`);
  }
  for (const handle of handles) await handle.close();
  return results;
}

describe('fallocate and the kernel', function () {
  this.timeout(120_000);

  before(function () {
    requireOrSkip(this, whyNoKernelExt4());
  });

  for (const { name, unit, args } of FORMATS) {
    it(`agree on what can be done, and on what it leaves (${name})`, () =>
      withMountpoint(async (scratch, mountpoint) => {
        const [theirs, ours] = [join(scratch, 'theirs'), join(scratch, 'ours')];
        makeImageFile(theirs, 64, args);
        copyFileSync(theirs, ours);
        const contents: Buffer[] = [];
        for (const round of [1, 2]) {
          const steps = randomSteps(unit, round);
          let expected: string[] = [];
          await withKernelMount(theirs, mountpoint, '', () => {
            const { code, output } = run('python3', ['-c', ON_THE_KERNEL, mountpoint], JSON.stringify([steps, MODES]));
            assert.equal(code, 0, output);
            expected = output.trim().split('\n');
            for (let i = 0; i < FILES; i++) contents[i] = readFileSync(join(mountpoint, `file${i}`));
          });
          const image = await openImage(ours);
          const found = await onTheLibrary(image, steps);
          steps.forEach((step, i) => {
            assert.equal(found[i], expected[i], `step ${i} of round ${round}: ${JSON.stringify(step)}`);
          });
          const moves = steps.filter(
            (step, i) => step.op === 'fallocate' && /-range$/.test(step.mode) && found[i].startsWith('done'),
          );
          assert.ok(moves.length > 30 || name === 'a block map', `only ${moves.length} moves`);
          await image.close();
          mustBeClean(ours);
          await withKernelMount(ours, mountpoint, 'ro', () => {
            for (let i = 0; i < FILES; i++) assert.ok(readFileSync(join(mountpoint, `file${i}`)).equals(contents[i]));
          });
          const left = await openImage(theirs, { readOnly: true });
          for (let i = 0; i < FILES; i++) assert.ok((await left.readFile(`/file${i}`)).equals(contents[i]));
          await left.close();
          // What the kernel has made of it is what we go on with, and the other way round.
          const [a, b] = [readFileSync(theirs), readFileSync(ours)];
          writeFileSync(theirs, b);
          writeFileSync(ours, a);
        }
      }));
  }
});
