// Enqueues BullMQ's jobs in all ways, round by round, until standard input ends; checks results.
// Usage: bullmq_client.js PORT FILE_OF_SENT_JOBS
'use strict'
const assert = require('assert')
const fs = require('fs')
const { load, port, loop } = require('./common')
const { Queue, QueueEvents } = load('bullmq')

const connection = { host: '127.0.0.1', port, maxRetriesPerRequest: null, retryStrategy: () => null }
const queue = new Queue('numbered', { connection })
const events = new QueueEvents('numbered', { connection })
for (const part of [queue, events]) part.on('error', error => { console.error(error); process.exit(1) })
const sent = fs.openSync(process.argv[3], 'a')
const PATIENCE = 50000
// Another client may have been here before.
let last = fs.readFileSync(process.argv[3], 'utf8').split('\n').length - 1

const fresh = count => Array.from({ length: count }, () => ++last)
const note = numbers => fs.writeSync(sent, numbers.map(number => `${number}\n`).join(''))

loop(async () => {
  await events.waitUntilReady()
  const alone = fresh(15)
  const jobs = await Promise.all(alone.map(number => queue.add('one', { number })))
  note(alone)
  const bulk = fresh(15)
  jobs.push(...await queue.addBulk(bulk.map(number => ({ name: 'bulk', data: { number } }))))
  note(bulk)
  const later = fresh(3)
  jobs.push(...await Promise.all(later.map(number => queue.add('later', { number }, { delay: 100 }))))
  note(later)
  const first = fresh(3)
  jobs.push(...await Promise.all(first.map(number => queue.add('first', { number }, { priority: 1, removeOnComplete: 1000 }))))
  note(first)
  const results = await Promise.all(jobs.map(job => job.waitUntilFinished(events, PATIENCE)))
  assert.deepStrictEqual(results, [...alone, ...bulk, ...later, ...first])
  await queue.getJobCounts()
}, async () => { await Promise.all([queue.close(), events.close()]) })
