/** `ext4d crashtest`: a program that keeps its promises, and one that does not. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readLogWrites } from '../../src/crash/log-writes.js';
import { run, withScratch } from '../support/mke2fs.js';
import { EXT4D, requireOrSkip, whyNoFuse } from '../support/server.js';

/** Replaces a file the usual way; SYNC makes it last, or nothing does. */
const PROGRAM_TEXT = `for i in 1 2 3; do
  echo "value $i" > config.new
  mv config.new config
  [ "$1" = careful ] && sync config && sync .
  echo "saved $i"
done
`;
const VERIFIER_TEXT = `want=$(tail -n 1 | sed 's/saved //')
have=$(sed 's/value //' config 2>/dev/null)
[ -z "$want" ] || [ "\${have:-0}" -ge "$want" ] || { echo "saved $want was promised, found '$have'"; exit 1; }
`;

function crashtest(...args: string[]): { code: number; output: string } {
  return run(process.execPath, [EXT4D, 'crashtest', '--size', '32', ...args], undefined);
}

describe('ext4d crashtest', function () {
  this.timeout(120_000);
  before(function () {
    requireOrSkip(this as unknown as Mocha.Context, whyNoFuse());
  });

  for (const { habit, code } of [
    { habit: 'careful', code: 0 },
    { habit: 'careless', code: 1 },
  ]) {
    it(`finds that a ${habit} program ${code === 0 ? 'keeps' : 'breaks'} its promises`, () => {
      withScratch((directory) => {
        const program = join(directory, 'program.sh');
        const verifier = join(directory, 'verify.sh');
        const report = join(directory, 'report.html');
        const kept = join(directory, 'kept');
        writeFileSync(program, PROGRAM_TEXT);
        writeFileSync(verifier, VERIFIER_TEXT);
        const args = ['--verify', `sh ${verifier}`, '--report', report, '--keep', kept, '--', 'sh', program, habit];
        const result = crashtest(...args);
        assert.equal(result.code, code, result.output);
        assert.match(result.output, /0 were not recovered/);
        assert.match(result.output, code === 0 ? / 0 broke them/ : /saved 3 was promised, found ''/);
        const html = readFileSync(report, 'utf8');
        assert.match(html, /<svg .*rename config\.new config.*<\/svg>/s);
        assert.match(html, code === 0 ? /<p>None\.<\/p>/ : /saved 3 was promised/);
        assert.ok(readLogWrites(readFileSync(join(kept, 'history.log-writes'))).length > 10);
        const images = readdirSync(kept).filter((name) => name.startsWith('state-'));
        assert.equal(images.length > 0, code !== 0);
      });
    });
  }

  it('runs --setup first, and does not record it', () => {
    const setup = ['--setup', 'mkdir d; echo old > d/file', '--verify', 'grep -q old d/file'];
    const result = crashtest('--report', '-', ...setup, '--', 'true');
    assert.equal(result.code, 0, result.output);
    assert.match(result.output, /recorded: 0 writes/);
  });

  it('kills what the command leaves running, and goes on', () => {
    const result = crashtest('--report', '-', '--', 'sh', '-c', 'exec 3>held; sleep 1000 & echo done >&3');
    assert.equal(result.code, 0, result.output);
  });

  it('ends with advice when a daemon of the command keeps the filesystem busy', () =>
    withScratch((directory) => {
      const pidFile = join(directory, 'pid');
      const daemon = `setsid sh -c 'echo $$ > ${pidFile}; exec sleep 1000 > held 2>&1 < /dev/null' & sleep 1`;
      try {
        const result = crashtest('--report', '-', '--', 'sh', '-c', daemon);
        assert.equal(result.code, 8, result.output);
        assert.match(result.output, /still has files open: have the command end it/);
      } finally {
        process.kill(Number(readFileSync(pidFile, 'utf8')), 'SIGKILL');
      }
    }));

  it('leaves no mount, loop device or file behind when it is interrupted', async () => {
    const scratch = mkdtempSync(join(tmpdir(), 'ext4d-interrupted-'));
    try {
      const child = spawn(
        process.execPath,
        [EXT4D, 'crashtest', '--report', '-', '--', 'sh', '-c', 'echo on; sleep 1000'],
        {
          env: { ...process.env, TMPDIR: scratch },
          stdio: ['ignore', 'pipe', 'inherit'],
        },
      );
      await new Promise((printed) => child.stdout.once('data', printed));
      const mounts = () => readFileSync('/proc/self/mounts', 'utf8').includes(scratch);
      assert.ok(mounts(), 'it is mounted');
      child.kill('SIGINT');
      assert.equal(await new Promise((ended) => child.on('close', ended)), 130);
      assert.ok(!mounts(), 'it is unmounted');
      assert.ok(!run('losetup', ['-a']).output.includes(scratch), 'no loop device');
      assert.deepEqual(readdirSync(scratch), []);
    } finally {
      rmSync(scratch, { recursive: true, force: true });
    }
  });

  it('says how it is used when the command is missing', () => {
    const result = crashtest('--verify', 'true');
    assert.equal(result.code, 16);
    assert.match(result.output, /put it after --/);
    assert.ok(!existsSync('ext4d-crashtest.html'));
  });
});
