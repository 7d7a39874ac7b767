/** What --version says. */
import { readFileSync } from 'node:fs';

export function version(): string {
  // Seen from build/src/cli.
  const { version } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'));
  return `ext4d ${version}\n`;
}
