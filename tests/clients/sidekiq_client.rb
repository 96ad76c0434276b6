# Enqueues jobs in all ways, round by round, until standard input ends.
# Usage: sidekiq_client.rb PORT FILE_OF_SENT_JOBS
require 'sidekiq'
require 'sidekiq/api'

# Or redis-rb warns at every push.
Redis.sadd_returns_boolean = false if Redis.respond_to?(:sadd_returns_boolean=)

Sidekiq.configure_client { |config| config.redis = { url: "redis://127.0.0.1:#{ARGV[0]}/0" } }

class NumberedJob
  include Sidekiq::Worker
end

ended = false
Thread.new { $stdin.read; ended = true }
sent = File.open(ARGV[1], 'w')
sent.sync = true
number = 0

until ended
  40.times do
    NumberedJob.perform_async(number += 1)
    sent.write("#{number}\n")
  end
  batch = Array.new(20) { [number += 1] }
  Sidekiq::Client.push_bulk('class' => 'NumberedJob', 'args' => batch)
  sent.write(batch.map { |args| "#{args[0]}\n" }.join)
  5.times do
    NumberedJob.perform_in(0.2, number += 1)
    sent.write("#{number}\n")
  end
  Sidekiq::Stats.new.processed
  Sidekiq::Queue.new.size
  Sidekiq::Workers.new.size
  puts 'round'
  $stdout.flush
  sleep 0.1
end
