"""Ordinary English words that look like a misspelt name of the domain and are not one.

"Attentive" is no typo of "attention". Written by docs/lookalikes.py from the word list SCOWL; not edited by hand.
"""

_WORDS = """
    abdomens abided abides ablative ablution ablutions abode abolition abortion abound abrasion accessed accesses
    accorded accords achieved achiever achievers achieves acquisitions acquisitive acrostic actinium activating
    actuality addictive additives admiration adoptive adulation adversaries adware aerate aerating agreements aground
    aldermen alibis alice alignments aline alinement alive allays aloha alphas altos ambience ambiences amperage
    analysts analytic analyzed analyzer analyzers analyzes anatolia anatolian anatomic anatomies anatomist anchored
    andean andersen angering annexations annotating annually answered antagonisms antagonist antagonistic antagonists
    anteroom anther antibody antone anythings applicator approached appropriated appropriately appropriates
    approximations archetype archetypes archetypical architecturally argumentation aromatic artifice artifices
    artificially ashing aside aspirating aspirations assailable assay assented asserted assessed assigned associating
    associations associative assorted asthmatic asuncion asymmetric attentions attentive attributed atypical audio
    audition auditions auditorium auditory audits augmentations authority authorize autocratic automata automates
    automatics automating automation automaton autos averages aviation avoidable awake award baaed backboard backdrop
    backdrops backer backgrounds backhand backstop backwards backwash backyard backyards badinage bakelite balder
    baled balinese balked ballasts banked bared barked barnett barrette barrettes bartlett basel baser bashed basics
    basie basil basin basins basks bassi basted bastes bated batter battle bayed beach beast beasts beaten became
    beech beelines beholden beholder belch besets bessel bessemer bestir bests bette betted bettered betters bettor
    bewilder bicameral bidder bilaterally binder biologists bitching bitter blacked blacks blacktop blank blast
    blasters blench blending blinders blindest blinding blinds blinkers blinks blintzes block blond bloods bloody
    bloom blunting blurring blurting boarding boasts boats bodes boinking bolder boles bondage bonding bones bores
    bottled bottles bouncing bowed bowell bowels bowen bower boxed boxen boxer boxers bracts brads brags braid brains
    brainy branched branding brass brawn brays breaches breakers breakups breasted breasts breathes brest brewster
    brian brits brood bruin bucked build builder builders building bulletin bunch bundling bused buster butter bylines
    cabernet cabinet cabinets cabled cadenza cadenzas cafes cages cakes calibrating calibrations calibrator calked
    caller callused calmed calved camber cambered cambia cambrian cameroon camps campsite campsites campus cancel
    canes canker cannon canter canto canvased capability caparison capsizes capsuled captaining captures cardenas
    cardigan cardinal caret carets cargo carla carlos carly carnation carnot carol carolled carotids carousal carted
    cartel cartels carter cartoon cartooned cartooning cartoons carts caryatid cased casey cashes caste castor casual
    caudal causality cautioning caves cavilled cease ceases celebration celli cello cellos celts centrist certainly
    certainty certificating certifications cervices cervixes chained chains chair chaise chalking challenged
    challenger challengers chambers chameleon chancel chancels chandler chanel chang channeled chanter chanters charge
    charger chargers charlene charters chartres chase chases cheapen cheapness cheater cheaters cheating checkering
    checkers checkups cheek cheeking cheeks cheep cheeping cheer cheering cheesing chess chestnut chests chewer
    chewiest chick chicks chiefer chinking chock chocking chocks chooses choosey choosy chortles chose chuck chucking
    chuckling chucks churches citation clacking clamber clambers clams clans claps clare clarification clasps classed
    classics classifications classifieds classing classy clattered clattering claus claws cleanest clearest cleaver
    cleavers clerking cleverer cleverly clicking climates climaxes clocking cloistered cloistering clover clucking
    clutches cluttering coaches coarsely coarsen coarsens coarsest coffined cognition coherent coinages coincide
    coincidence colin collared collaring collision collusion colonoscopies colons colony colors combating combine
    combines commence commend commends commented comments commonest commute commuted commuter commuters compacter
    compactest compacting companion comparably compassed compassing compassion compatible competed competent competes
    competing compiling complaisance completed completer completes complexes complexities compliant complicity
    complying comporting composer compositor compositors composts composure compotes compress computation
    computationally computations computers computing conceals concedes conceit conceits conceive conception
    conceptions conceptually concerns concert concerti concertos concerts concession concetta conches concisely
    conciser concisest concocts conditionally conditionals conditioned conditioner conditions conductivity confession
    confided confidences confides confined confluence confound confounded confounds confucian confusing confusions
    confuted congests conjuring connective connector connectors connects connivance conniver connoted consent
    conservation conservatism conservatives considered considers consolation constance consumer contend contends
    contented contents contexts contextual contiguity continence continent continuing contorting contract contractile
    contracts contractual contralto contrarily contrasted contrasts contributing contributor contributors contrition
    controller controllers contusing contusion contusions convened convenes convenience convergences convergent
    converts convince convocation convoluted convolutions convulsion coopered coopering copes corduroy cores corine
    corollary coronado coroners correctest correction corrections correlating correlative correlatives corrugation
    corrugations corruptness corteges corteses cortexes cortez cortices cosigned cosigner cotes cottoned cottons
    couched coulter countering counters couple couples couplets coups coursed courses courted courtesy courtier
    cracking craftier crafts crafty crate crated crates creaking creating creations creative cremation cremations
    cress crest cricking criterion critically criticizes critics critique critiques croatian crossest crotches
    crouched crouches crows cruft crufted crunches crutches culled culls cures curie curies currant currants currents
    curses curtain curtains curved curviest curvy cynically dales daley deanna debugger debugs debunking debut
    debuting declination decodes decryption deducting deduction deere defaulted defaulter defaults defeating
    defecating defecation defect defected defecting defection defector defectors deference deflation deflecting
    deflector deflectors defogger degree deign deject dejected dejecting dejection delegation deletions delia
    deliberation delineating delineations della deltas deluging delusions demising demotion denial denoting denseness
    dependance dependencies dependency dependents depicting depiction deposing deputies derail derision descried
    descries deserter deserting designer designs despising detaching detain detective detentes detention detentions
    deterring detest detested detesting detracting detraction detractor detractors developed develops devising
    devotion diabetes diabetics diabolic diagnosed dialectic diana diann dianne diereses diesels dieter dietetic
    diffed differential differentials differentiate differing diffidence diffident diffused diffusely diffuses
    diffusing digestion digestions digitalis digitally dilation dioceses directer directive directives disagreements
    disagrees discriminate discrimination diseases disentangle disentangles dispense dispenses dispersal disperses
    dispersion displease dissected dissections dissects dissent dissents disses distanced distances distension
    distillations distortions diuretic diverge diverged diverges divers diversify diverted divisions dniester doctoral
    doctored doctorow domains donne dovetail dries dropouts drugging duffer earliest easiness easter edifying editions
    educates effected effecting effectively efficiently ejecting ejections elective electors electric electrode
    electronic elemental elements eleventh elision elopement embodying embryos emending eminence emitting emulates
    emulsions enact enchanted encoders endorser endorsers enema enfeeble engender engenders engineered enhancer
    enmities entitled entitles entranced envision epidemic epsilons equities erection erections esophagi esophaguses
    esther estimable estimations ether evacuate evacuated evacuates evacuating evacuation evacuations evaluates
    evicting eviction evidenced evidences evolution exacts exaggerating exaggerations exalt examines exampled
    exasperation excavation excepted excerpts excision exciting exclaimed exclaiming exclaims exclamation exclamations
    executed execution exemplars exemplary exert exertion exerts exiting expedited expelled expended expiated expiates
    explicating exploitation exploited exploiter exploiters exploiting exploits export exporter exports extremely
    extremer extremes extrication exultation fable faceting facings faction factional factored factorial factories
    factorize factory fading fainer faintest faithfully faithfuls faking fallen fallowing fancying faring farther
    farthest fasted fasten fastener fastness fatal fating fatter fattest fattiest fault faulty faxing fazing feasibly
    feathers featured fecal feedbags feedings fending feral festal fester fiber fictional fictions fiddling fielding
    fiend fighting figured figurine figurines filed filler fillings filly filthier finality fined finery fines finger
    fining finking fissures fitter fittingly fittings fiver fixating fixer flail flairs flames flapping flashest
    flattest flatting flicking flippant flippies flitting flopping fluids fluorescent foetal foisting followings folly
    fonder fondle fondling fondue fondus forewarn foreword forwarded forwarder forwards foster foully foundations
    founding fracking fractions fractious framed framer framers frameworks fretting friction friended friending
    frigidly fringing fronde froths fruition fulls fumed functionally functionary funding funds fundy fungus furthered
    furthers furthest fuses fusions fussed fustiest futon fuzed gages gales gallbladders games gapes garaging gases
    gazes gazetting genera generalize generalizes generally generals generators generics genetic genetics gentling
    gestating gestured gestures gibing gigapixels glads glassy glided gloss glutting goading grabbing gracing grads
    grady grafting grafts granting grape graphed grapnels grapples grasping grass grassing grates grating gratings
    graving graying grazing greasing greeting grieving gritting grouched grouching grounder grounders groundhog
    groundings grounds grouping grousing grout grouting grudging grunting guarding guesting gutting gyrating haling
    halving haman handcraft handcrafts handel handled handler handlers handles happened happens hardback hardtack
    hares haring hassling hasting hastings hatching hating hawing haying hazing heard hears hearst hearth hearts
    hearty heaving heist heists helpfully highlighter highlighters hikes hines hippos hippy hired hives hiving
    hospitable hospitably hospitals howsoever huffman humane humans hushing ignored imaged imagine imagines imagining
    immersion impaling implausibly importantly importing impotence impotent imprinting inaction inboards inceptions
    inclining inclosing includes incoherently increased increases incursion indecently independence independently
    independents indicated indication indict indicted indicts indies individually indorses induce induces ineptitude
    infant infantry infarction infecting infections infectious infer infernal infertile infiltration infirm inflames
    inflation inflection inflections infliction influenced influences influential influenza informal informational
    informer informers infractions ingenious inhere injection injections insertions insider insiders insides
    instalment instalments instanced instancing instant instinct instincts instrumental instrumentals instrumented
    insurance insurances integers integrate integrates intel intelligent intensest intent interacts interbred
    intercept interested interests interj interject interjection interment intern internal internally internee
    internees internist interpretative interpreter interpreters interpretive interprets interrelation interrelations
    inters intersect intersections intervals interventions intruding intuiting intuitions invariable invariant
    invasion inversely inverses inversions investigate investigated investigates investigator investigators invoices
    involved involves inwards islam issuance iterated iterations karen kennel kidneys kinney laddered laden lagers
    lament lamented laments lamers lanes languages lapel lapels lapsed lapses larges largo lased lases latest latex
    lathered laurence lawyer lawyers layettes layovers laypersons leafing leakages leaking leaned leanings leann
    leaping learner learners learnt leary lease leasing leaved leaven leavened leaving leavings legalization legalize
    legion legions legit lemuel lerner lesbians lesson lessons levee levelled levels lexicons libel libeled libelled
    libeller libels liefer liens lifer lightweights liker likes limber limes lineally lined linen linens liners lints
    linus lipreading liter literary littler littlest lived lively liven livers livery llama loaning locale locality
    localizes locals locking locks lookalike lookalikes looming looms loons looping loops loosed loosen looser looses
    loosing looting loots loser louse lover loyal loyalist lucia lucio lurid macaulay machined machinery machines
    macing macroscopic madeline magnetos maidenly makings malarial malaysia mamas mambo mamma mammon manipulating
    manipulations manipulative manipulator manly mappings marching margie marginal marin marlin marlins marrows
    martians martin martinis martins marvin mashed mashing massed master mather mating matricides matrixes matte
    matted mattel mattes maxing mayas meaner meanings medal medial medic medicaid medicals medici medicinal medicines
    medics medieval meier melanomas melanomata membranes memories menacing menhaden mennen mentoring messes messing
    meteoric methadon metrical mexicali mexico microcode microscopes miking miltonic mimeograph mimeographs mimics
    miner minima minimally minimization miscuing misdoing mishap missiles missions missives missteps mistake
    mistakenly mistaking misting misuses misusing mittens moaning mobility modeled modelled modelling modem modems
    modes modestly modulate modulates module modules modulo moistly molecule molecules monterey month montreal monty
    mopping moral moralities morality moralize moralizes morrow mortality mortices moselle mosses motel motels
    motility motoring moussing muenster mufti multiplayer multiplex multiplexes multiplier multipliers multiplies
    multiply multitasks murrow muscular mussed mussel mussing mutter naked naturally naturals nearness neatest
    necessity needles needless negate neighbored neighborly nerved nerves nervy netbooks networked neurologists
    neuroses neutral neutrals neutron nevis nexus noised noises noose norma normalcy normally norman noshing notching
    nothings noticing notifies noting notwork notworks nowise nucleic numbed numbered numbers nursed nurses oases
    objected objectors observational occasion occlusions occlusive ocher operated operates operations operative
    operators opinions optically optima optimal optioned orations organics organism organisms organists otter otters
    outposts outweigh ovations overacting overawing overeating overrating packaged packages pacts pagers paginating
    pails pained paining pains paint paintings paints palace palatial pamirs pampers panaceas pancreases pandas
    panorama panoramas panting pants panza papery paradise paradises parasitic parch parches parcs pared parentage
    parenting pares parks parred parsifal parson partially partials particle particularly particulars particulate
    partisan partitioned partitions partizan parturition party passable passably passe passel passenger passer pastern
    pasterns pastiches pasts pastures patched patchier patchy patent patented patenting patents paterson patience
    patienter patiently patter pattered pattering patters patterson paunches paupers payers payments peace pearson
    pecos pelicans peopled peoples peopling percentages percentile percussion perforce performances performed
    performer performs perimeter perimeters peripherals permanence permanent permeate permed permit permutations peron
    peroxide perpetual persians persona personae personal persons persuasion pertained perusing pestilence pestilent
    pests peterson petition petty phage phages phantasm phantoms phased phobos phonograph phonographs photographers
    photoing phrased physical physicals physicist physicists pictograph pictographs pictured pints pipers pipit pitch
    pitchers pitches placed placer plaice plaid plains plaint plait plaiting plate platters plausibly pleas pleased
    pleasure plunging plunking pluto pocks podia pointers pointier pointy poled poling polished polled polling
    polygamy ponds pooching poohed poohing poole pooped pooping popsicle portions porto ports possibles postdate
    postpones postures prancing prawning precedence precinct precincts precising preclusion predated predating
    predator predicated predicating predication predilection predilections preempting preening preferences prematurely
    premiers preordained preparation prescient presentation presented presenter presently presents preservative preset
    president preterit prettify prettily prevent prevents priceline primping print prints prism prisms probable
    probables probed problems prodding producer producers produces product profanation profaned profanely profanes
    proffers profiting profound profusion prognoses prognostic prognostics programed programer programers programme
    programmed programmers programmes progressing progressively progressives projectile projectiles projecting
    projectionist projectors projects prolixity promising promo promoting prompter promptings prone pronto propane
    propel propose proposed proposer proposes propound proprietor proprietors propriety prorating prose prosecution
    prosecutions prospect prosper prospers prostates prostrate prostrated prostrates prosy protect protection
    protections protects protocols prototyping protozoon provable prove provided provident provider providers provides
    province proving provision provo publican publicly publisher publishers publishes puncture punctures punished
    putsches quack qualification qualify quanta quantity quantum quelled quells questing questioned questioner
    questioners quirk raced racking radcliff radiance radio radiogram radiograms rafted raged railings raked raking
    rally ramos ranching randomize randomizes randomly randoms ranging rankin rankine rankling ransom ranted ranting
    raped rapider rapidest rapine rapports rared rasher rates ration rational rationalism rationalist rationalize
    rationalizes rationally rationals ratios ratted raved razed reaction readings readying reales realist realists
    realty reaming reaping rearing reasonably reasoned reasoner rebated recant recanted recasting receding recenter
    recently recession reciprocal reciprocals reciprocate reckoning recommenced recommences recommends recompensed
    reconstructing reconstructions recreant recruiting recumbent recuperation recurrence recurring redding redefine
    redress reductions reeducation referenced referenda referent refile refiner refiners refinery refines reforming
    refrain refraining refrains refugee refugees refuges refuse refute refuting regales regally regarded regards
    regimens regina reginald register registers registrar registrations registry regressed regresses regressing
    regressions regressive regret regrets regularly regulars regulates regulation regulations reheated reilly
    rejection relapsed relates relation relatively relaxed relaxing relay relayed relaying relegated relent relented
    relevancy relevantly religion religions reloaded reloading relocated remaining remaking remarking renaming rending
    rends rennet renting reorging repaired repaying repeating repent repenting replayed repleted repleting reporter
    reporters reposing represent representational represented represents repress repression repressions reprinting
    reprising reproving requite requited requiting rereading rerouting rerunning resale rescuing researched researches
    resenting reset resetting resisting resistor resolutions resonances resonant resonate resort resorting resorts
    respectability respired restated restating restoring restrain restraining restrains restraint resulted resulting
    resuming resurgent resurrect retailing retain retaining retaking retarded retarding reticent retort retorting
    retorts retracting retrains retrievable retrievals retrieve retriever retrying returnee reunions reuniting
    revelers reverence reverenced reverences reversion reverting revilers revolting revolution revolutions rewarded
    rewarding rewiring reworking riesling riles riposting roasting robots robuster robustest robustly roentgens roles
    roosting roseau rounding rubes rubles ruining ruled ruler runes ruses rusting rustling sable saddling saint sales
    salience salients salinity sallower sallowest sambaing sampler samplers samplings sanatoria sanctity sanger
    sanguine sanitarium santa santeria sapience sapling saplings sapping satisfactions saturation saute savaging scabs
    scads scags scala scald scalds scaled scaliest scalp scalpels scalpers scalping scalps scaly scampies scams
    scanners scant scanted scanter scantier scants scarceness scarcity scared scars scats scatting scenting scimitar
    scone scope scoped scopes scorched scorches scorecard scorers scorn scorned scorns scorsese scots scoured scourged
    scourges scouring scowling scrapping screaming screeching screenings screwing seagoing searched searcher searches
    sears seating seconded secondly securing security sedating sediment sedimentation seductive semen semester
    semesters semiotics semitics sensed senses sensibility sensitively sentenced sentience sequenced sequencer
    sequencers serenest serenity settling sevens sever severally severing severn sexting shade shadowing shaft shafted
    shafting shagging shake shambles shambling shame shane shapely shapes shard shari shark sharping sharps shave
    shawn shear shears shiftily shifts shifty shill shilling shimming shine shingle shingled shingles shinning
    shirking shirring shirt shirted shirting shitting shoaling shocking shoeing shooing shoon shootout shootouts shore
    shored shores shoring shorn shortest shots shoulder shoving shower showering showiest showings showy shrift
    shunting shysters sicker sides sidewise siding sifted sifting signaled signally signet simile simplify simulates
    simulations simulator singe singles singly sited sitting sittings situating situations skate skidding skills
    skipping skirting skull slapdash slapping slate sledding sledging sleeting sliced slicer slicers slicing slick
    slickers slickest slicking slicks slider sliders slimming slinging slinking slopping slots slotting slowed slowing
    slowness sluice sluices sluicing smalls smart smell smelting smooch smoothing smooths smuggest snagging snapping
    snide sniffing snipping snore snored snores snots snowiest snowing snuggest soggiest solidest solvency someones
    somethings sondra sonia sonja sonya sooth soothing sores sower sowing spaced spacey spacial spacious spacy spade
    spake spaniard spanned spanner spanners spans spareness spares spars sparser sparsest spats spatting spear spears
    specifics specified specifier specifies specious specs speeds speedy speer spelt spend spent spewed spices spied
    spike spill spines spinet spinx spiny spire spite spited spits splice splicers splices splicing spline spore
    spored spores sports spouts sprained spreed spreeing spuriously squalled squarely squarer squares squarest
    squashed squatted squawked squeaked squealed squinted squired squirmed stabbing stabilize stabilized stabilizer
    stabilizes stabled stabler stables stablest stabling stacking staffing staffs stagings stake staking stales
    staling stalking stall stalling standardize standardizes standards standing stanford staple starch stare staring
    starlight starling starring starting starving stashing staten stater states stationed stats statue stave staving
    steadies stealing steaming steel steep stenographer stenographers stenography stepping sterility steven stiff
    stiffing stifling stile stimulation stine stinging stint stinting stipulation stokes stole stoles stomached
    stomachs stoned stoner stoners stoney stoniest stopping store stored stoves stowing strafing straighten straighter
    straights strained strainer strapping strawing straying striated stricture strictures strident striding stringed
    structurally students studios studlier studliest studly studs stuff sturdier sturdiest sturdy sturgeon sturgeons
    styli submersion submissions submissive substitute substituting substitutions subtitle subtler subtlest subtlety
    subtly succored sufficient sufficiently sugaring suggested suggester suggesting suggestive suggests suitability
    suitably suite suites sulfides sulfuring summations superb supermodel supermodels supers supersized supervened
    supervise supervisor supine supper supporter supports surer surgically surrogates survivals survived survivor
    sustained swabbing swamping swanking swans swarming swashing swathing swear swears sweating sweeping swill swing
    switcher swooping swopping swore synopses synopsis syntheses synthesize synthesizes synthetics systemic systemics
    tabulate tabulator tacking tackling tacks tailor tainting takings talking talks tames taming tamps tanking taping
    taring tarrying tasking tatar tatter tatty taunting taupe taxing teams teats technical teems tempe temperas tempi
    temporally temporary tempos tempt tempts tendril tendrils tenet tents terns testes testis testy texted textural
    thanking thins thongs thorough thoughts thrace thracian threefold threshed thresholds thrust thunks thyroids tides
    tikes timed timer timers timex timor tines tings tirade tirades tires toked tokenism tokes toking tolerable
    tolerances tolerant tolerate tomes toner toning toolboxes topographic topographies topography torah torrance
    tortes totality totalled totes tough touted touts towed towel towers toying traced traces tracey tracings traction
    tracts trail trailed trailing trainer trainers trains traipsed traipsing trajectory tramming tramping trance
    tranquil transaction transferals transfers transient transition translating translations translator translucence
    translucent transmit transmits transponder transport transported transporters transports trapping trashing
    traverse traversed traverses trawling triads trialing triangle trice truce truest truing trunking truss trustful
    trustfulness trusts trusty truthfully tryst trysting tuberculous tubing tubular tudor turing turning tusks tutor
    twain tweaking tying typography ultras uncertainly underhand underlain understandably understandingly
    understandings understands understate understated understating understudy unfaithfully unfits unitas unite unites
    unity unseen unspecific unsure unusually uptakes useability usefully ushers utilizes vacation vague vales
    validated validates valuation valued valves vanillas vapidity variously vectored vegan verbally verbals verily
    verity vernal verses versify vicarious victor victors vireo vireos virtually visioned visions visit visualized
    visualizes vitalize vitalizing vitiation vivid vowel vowels wafted waite waited waiting waned wanked wantoned
    warden wards wasted weigh weighed weightier weighty welch welching welcomes welshes welshmen wenches weyden whale
    whatsoever whenever wheres whine whitefield whiten whitener whiter whites whither whiting whitings whits whittling
    wholes wideness widening widow widows wifely wight wights windowed windsors wingless winnow winnows wirelesses
    wiriness wisely witching wonted woods woolen wooten wording wordings wordy workings world worlds worming worms
    worrying worsen woulds wound wrenches wresting wretches wright wring wringing writhing writings wrongs wrung
"""

LOOKALIKES = frozenset(_WORDS.split())
