# What Sidekiq's server process runs: every job appends its number to a file.
require 'sidekiq'

# Or redis-rb warns at every push.
Redis.sadd_returns_boolean = false if Redis.respond_to?(:sadd_returns_boolean=)

Sidekiq.configure_server do |config|
  config.redis = { url: ENV.fetch('REDIS_URL') }
  config.options[:average_scheduled_poll_interval] = 1
end

DONE = File.open(ENV.fetch('JOBS_DONE'), File::WRONLY | File::CREAT | File::APPEND)
DONE.sync = true

class NumberedJob
  include Sidekiq::Worker
  sidekiq_options queue: 'default', retry: 0

  def perform(number)
    # As duplicate-job middleware does: a lock with an owner, released by a script.
    Sidekiq.redis do |redis|
      key = "lock:#{number}"
      raise "job #{number} is locked" unless redis.set(key, jid, nx: true, ex: 600)

      release = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"
      raise "job #{number} lost its lock" unless redis.eval(release, [key], [jid]) == 1
    end
    DONE.syswrite("#{number}\n")
  end
end
