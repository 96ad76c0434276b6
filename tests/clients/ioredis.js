// ioredis, with auto-pipelining: everything of one turn leaves in one write.
// Usage: ioredis.js PORT
'use strict'
const assert = require('assert')
const { load, port, loop, range } = require('./common')
const { Redis } = load('ioredis')

const options = { port, host: '127.0.0.1', enableAutoPipelining: true, maxRetriesPerRequest: 0, retryStrategy: null }
const redis = new Redis(options)
const blocked = new Redis(options)
const ears = new Redis({ ...options, enableAutoPipelining: false })
const heard = []
ears.on('message', (_, message) => heard.push(message))

redis.defineCommand('release', {
  numberOfKeys: 1,
  lua: "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"
})

loop(async number => {
  const p = `io:${number}:`
  await Promise.all(range(300).map(at => redis.set(`${p}${at}`, at)))
  const values = await Promise.all(range(300).map(at => redis.get(`${p}${at}`)))
  assert.deepStrictEqual(values, range(300).map(String))
  assert.deepStrictEqual((await Promise.all(range(100).map(() => redis.incr(p + 'n')))).at(-1), 100)
  assert.deepStrictEqual(await redis.mget(p + 1, p + 'missing', p + 2), ['1', null, '2'])

  const piped = await redis.pipeline().hset(p + 'h', 'f', 1).hgetall(p + 'h').lpop(p + 'h').exec()
  assert.deepStrictEqual(piped.slice(0, 2), [[null, 1], [null, { f: '1' }]])
  assert.match(piped[2][0].message, /WRONGTYPE/)
  assert.deepStrictEqual(await redis.multi().set(p + 'k', 'v').get(p + 'k').exec(), [[null, 'OK'], [null, 'v']])
  await assert.rejects(redis.multi().set(p + 'k').exec(), /EXECABORT/)

  assert.strictEqual(await redis.set(p + 'lock', 'me', 'EX', 60, 'NX'), 'OK')
  assert.strictEqual(await redis.set(p + 'lock', 'you', 'EX', 60, 'NX'), null)
  assert.strictEqual(await redis.release(p + 'lock', 'me'), 1)

  const taking = range(20).reduce(
    (before, at) => before.then(async () => assert.deepStrictEqual(await blocked.blpop(p + 'q', 20), [p + 'q', String(at)])),
    Promise.resolve()
  )
  for (const at of range(20)) await redis.rpush(p + 'q', at)
  await taking

  heard.length = 0
  await ears.subscribe(p + 'news')
  for (const at of range(20)) await redis.publish(p + 'news', at)
  for (const since = Date.now(); heard.length < 20 && Date.now() - since < 20000;) await new Promise(setImmediate)
  assert.deepStrictEqual(heard, range(20).map(String))
  await ears.unsubscribe(p + 'news')

  let found = 0
  for await (const keys of redis.scanStream({ match: p + '*', count: 100 })) found += keys.length
  assert(found >= 300)
}, async () => { await Promise.all([redis.quit(), blocked.quit(), ears.quit()]) })
