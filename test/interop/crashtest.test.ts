/** `ext4d crashtest`: a program that keeps its promises, and one that does not. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
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

  it('says how it is used when the command is missing', () => {
    const result = crashtest('--verify', 'true');
    assert.equal(result.code, 16);
    assert.match(result.output, /put it after --/);
    assert.ok(!existsSync('ext4d-crashtest.html'));
  });
});
