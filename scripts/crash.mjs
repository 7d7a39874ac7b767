/** `npm run test:crash`: sets up and runs the crash explorer; its options are those of test/property/crash/main.ts. */
import { setup } from './setup.mjs';

if (!setup()) process.exit(2);
await import('../build/test/property/crash/main.js');
