// node-redis (the package `redis`), which pipelines everything by itself, in both protocols.
// Usage: node_redis.js PORT
'use strict'
const assert = require('assert')
const { load, port, loop, range } = require('./common')
const { createClient } = load('redis')

const open = async RESP => {
  const client = createClient({ RESP, socket: { port, host: '127.0.0.1', reconnectStrategy: false } })
  client.on('error', error => { console.error(error); process.exit(1) })
  return client.connect()
}

const repertoire = async (redis, blocked, ears, p) => {
  const values = await Promise.all(range(300).flatMap(at => [redis.set(`${p}${at}`, at.toString()), redis.get(`${p}${at}`)]))
  assert.deepStrictEqual(values, range(300).flatMap(at => ['OK', String(at)]))
  assert.strictEqual(await redis.get(p + 'missing'), null)
  await redis.hSet(p + 'h', { f: 'v', g: 'w' })
  assert.deepStrictEqual({ ...(await redis.hGetAll(p + 'h')) }, { f: 'v', g: 'w' })
  await redis.zAdd(p + 'z', [{ score: 1.5, value: 'a' }, { score: 2, value: 'b' }])
  assert.deepStrictEqual((await redis.zRangeWithScores(p + 'z', 0, -1)).map(({ score, value }) => [value, score]), [['a', 1.5], ['b', 2]])
  assert.deepStrictEqual(await redis.multi().set(p + 'k', 'v').get(p + 'k').incr(p + 'n').exec(), ['OK', 'v', 1])
  await assert.rejects(redis.incr(p + 'k'), /not an integer/)
  assert.strictEqual(await redis.eval('return redis.call("incrby", KEYS[1], ARGV[1])', { keys: [p + 'n'], arguments: ['4'] }), 5)
  assert.strictEqual(await redis.set(p + 'lock', 'me', { NX: true, PX: 60000 }), 'OK')
  assert.strictEqual(await redis.set(p + 'lock', 'you', { NX: true, PX: 60000 }), null)

  const taken = (async () => {
    for (const at of range(20)) assert.strictEqual((await blocked.blPop(p + 'q', 20)).element, String(at))
  })()
  for (const at of range(20)) await redis.rPush(p + 'q', at.toString())
  await taken

  const heard = []
  await ears.subscribe(p + 'news', message => heard.push(message))
  for (const at of range(20)) await redis.publish(p + 'news', at.toString())
  for (const since = Date.now(); heard.length < 20 && Date.now() - since < 20000;) await new Promise(setImmediate)
  assert.deepStrictEqual(heard, range(20).map(String))
  await ears.unsubscribe(p + 'news')
}

const run = async () => {
  const clients = {}
  for (const RESP of [2, 3]) clients[RESP] = await Promise.all([open(RESP), open(RESP), open(RESP)])
  await loop(async number => {
    for (const RESP of [2, 3]) await repertoire(...clients[RESP], `node:${RESP}:${number}:`)
  }, async () => { await Promise.all(Object.values(clients).flat().map(client => client.close())) })
}
run()
