// What BullMQ's worker runs: every job appends its number to a file.
// Usage: bullmq_worker.js PORT
'use strict'
const fs = require('fs')
const { load, port } = require('./common')
const { Worker } = load('bullmq')

const connection = { host: '127.0.0.1', port, maxRetriesPerRequest: null, retryStrategy: () => null }
const done = fs.openSync(process.env.JOBS_DONE, 'a')
const worker = new Worker('numbered', async job => {
  fs.writeSync(done, `${job.data.number}\n`)
  await job.updateProgress(100)
  return job.data.number
}, { connection, concurrency: 10 })
worker.on('error', error => console.error('error', error))
worker.on('failed', (_, error) => console.error('failed: error', error))
