'use strict';
// The agent has Node, the program is Python: find one, start it, pass on signals and the exit code. No dependencies.
const { spawn, spawnSync } = require('child_process');
const path = require('path');

const WINDOWS = process.platform === 'win32';
const MINIMUM = 10; // Python 3.10
const ASK = 'import sys; print("%d.%d" % sys.version_info[:2])';
// On Windows `python3` may be the store's stub; the launcher `py` is there without PATH.
const NAMES = WINDOWS ? [['python'], ['python3'], ['py', '-3']] : [['python3'], ['python']];

function answer(words) {
  const asked = spawnSync(words[0], words.slice(1), { encoding: 'utf8', timeout: 30000, windowsHide: true });
  return asked.status === 0 ? asked.stdout.trim() : '';
}

function version(words) {
  const [, minor] = /^3\.(\d+)$/.exec(answer([...words, '-I', '-c', ASK])) || [];
  return Number(minor || -1);
}

function python(older) {
  for (const words of NAMES) {
    const minor = version(words);
    if (minor >= MINIMUM) return words;
    if (minor >= 0) older.push(`${words[0]} is 3.${minor}`);
  }
  const found = answer(['uv', 'python', 'find', '--no-project', '--system', `>=3.${MINIMUM}`]);
  return found && version([found]) >= MINIMUM ? [found] : null;
}

function say(command, text) {
  // The agent reads a command to the end of its line.
  const data = text.replace(/%/g, '%AZP25').replace(/\r/g, '%0D').replace(/\n/g, '%0A');
  process.stdout.write(`##vso[${command}]${data}\n`);
}

function fail(happened, means, next) {
  say('task.logissue type=error', `helm-canary: ${happened}\n${means}\n${next}`);
  say('task.complete result=Failed', happened);
  process.exitCode = 3;
}

function end(code, signal, told) {
  // A Python that was told in its own first moments ends with 1, which the program never does.
  const cancelled = code === 130 || (told && code === 1) || signal === 'SIGINT' || signal === 'SIGTERM';
  if (cancelled) say('task.complete result=Canceled', 'helm-canary was cancelled (exit code 130)');
  else if (signal) say('task.complete result=Failed', `helm-canary was ended by ${signal}`);
  else if (code !== 0) say('task.complete result=Failed', `helm-canary ended with exit code ${code}`);
  process.exitCode = cancelled ? 130 : signal ? 5 : code;
}

function run() {
  let child = null;
  let told = false;
  // Before the child is there: were Node to end just after its start, the program would go on with nobody to stop it.
  // On Windows the console tells the program itself; to forward it would kill. Here it only must not end Node first.
  for (const name of WINDOWS ? ['SIGINT', 'SIGBREAK'] : ['SIGINT', 'SIGTERM']) {
    process.on(name, () => {
      told = true;
      if (child && !WINDOWS) child.kill(name);
    });
  }
  const older = [];
  const found = python(older);
  if (!found) {
    const happened = `No Python 3.${MINIMUM} or newer is on PATH${older.length ? ` (${older.join(', ')})` : ''}.`;
    return fail(happened, 'The program is written in Python, and this agent has none that is new enough.',
      `Add the task UsePythonVersion@0 with versionSpec '>=3.${MINIMUM}' before this one, or install Python on the agent.`);
  }
  // Both streams on one descriptor: the log keeps the order in which the program spoke.
  const start = path.join(__dirname, 'start.py');
  child = spawn(found[0], [...found.slice(1), '-I', '-X', 'utf8', '-u', start],
    { stdio: ['ignore', 1, 1], windowsHide: true });
  child.on('error', (error) => fail(`Python could not be started: ${error.code}.`,
    'The file that PATH names is none that this machine can run.', 'Repair Python on the agent, or add UsePythonVersion@0.'));
  child.on('exit', (code, signal) => end(code, signal, told));
}

run();
