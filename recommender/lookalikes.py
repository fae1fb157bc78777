"""Common words of English, German, French and Spanish that look like a misspelt name of the domain and are not one.

"Intention" is no typo of "attention". The list holds only words within typo distance of a name of the knowledge base or
of medical imaging, folded to lower case without diacritics.
"""

_WORDS = """
    abajo abduction abetting abkommen abnormal abode abolition abortion abound abrasion abril absolution abstained
    abstention abstract acces acceso accessed accorded accordee accounted accurate acheve achieved acide acquired
    actionnaires activating activator activision actos actua actuacion actuality actuan actuando actuar actuel
    actuelle acuerda acuerdan acuerdas adapting addictive addition adherence admiration admision admission
    admissions adoption adoptions adoptive adquisicion adversaries adversity afectada afectadas afectado afectados
    affection affective affichent affluence aggression agrement agresion agression aground ahnlich ahnlicher
    ailleurs aldermen aleatoire algorithmic algorithmus alice alignement alimentation alive alliance allowing aloha
    altas altogether altos amassing ambience americas amerique amical amounted analisis analysed analyser analysing
    analyst analysts analytic analytics analyzed analyzer anatolia anatomie ancho anchored andean anderem anderer
    anders andersen anderson andert anderte anderung andre anerkennung anhanger annotation annually anointing
    anpassen answered antagonism antagonist antagonistic antagonists anthology antibody antologia antworten anzeigen
    aplicable aplicacion aplicaciones apologist aporta applicable applique appliquer appointing appoints approached
    approche approcher approches appropriated appropriately approprie aproximacion aquellas aquellos archetype
    archetypes architecte architektur ardiente arenas argumentation arias armas armement aromatic arresting artere
    artifice artificially artificiel artworks ascertain aside askin asociacion assay assemble asserted assertion
    assessed assigned assignment assiste assistent assister associating associative assorted asuncion asymmetric
    ataco atado atkinson atras atributos atribuye attained attaining attentes attentif attentive attenuation
    attraction attribue attribuee attribuer attributed attrition atypical auctions audiencia audiencias audio
    auditing audition auditions auditorio auditorium auditory aufgabe aufgaben aufnehmen aufraumen aufrecht
    augmenter aulas aupres ausgeben ausnahme ausnahmen ausseren aussicht aussieht austeridad austerite authorise
    authority authorize autocratic automata automate automated automaten automatica automatico automation
    automatisch autores autorise autorisee autoriser autorises autoritat autorizada autorizado autoroute averaged
    aversion aviation avoidable awaiting awake award backdrop backend backhand backyard baines bajado baked balinese
    banked bargains barked barnet barnett barometer bartlett basada basee basel bases bashed basic basics basieren
    basil basin basins batiment batiments batter battle beach beast beasts beaten beater beats became bedeuten beech
    befand befitting behaving beholden beholder bekannte bekannten bekannter belasten belittle bemerken benannt
    benutze benutzer benutzte benutzung bereiten berichte berichten besetzen besitzen besitzer bestehen bestimmte
    beten betes betreten bette betten beverage beweisen bewerben bewerber bewertet bewertung bewirken beworben
    biased bidder bildet bildeten binder bindings biografia biologia biologica biologico biologie biometric bitching
    bitter blacked blank blast blasters blattern blending blesser blick blighted blinding blinds blinks blistering
    block blocking blode blond bloody bloom blooming blurring boarding boasts boats bondage bonding bookings bores
    boses bosser botes bottled bouncing boutique bowed bowen bower boxed boxeo boxers bradshaw braid branche
    branched branchen branches branding brass brauch brauchst braucht brauchte brauchten braun brawn breaches
    breakage breakers breaking breasted breather breathes breeding brest brewster brian brits brood brothers bruit
    brunt brush build builder builders building bulletin bunch burst buster butter cabernet cabinet cabinets
    cabrones cafes cages caine cajas cakes calcular calientes califica calificacion califico calmed calories camas
    cambia cambiado cambian cambiara cambiaria cambiaron cambrian cameroon camps campsite campsites campus cancel
    cancelar cannon canto capability capables capacities capacity capaz capteurs captions captures caracteristica
    caracteristico caracteristique caras cardenal cardenas cardigan cardinal cardiology careless cargo carla carly
    carne carnes carnet carol caros carottes carre carres carriers carries carro carrying carta cartas cartel
    carteles cartels carter cartoon cartoons carts carve casas casero casey casse caste castes castor casts casual
    casually catalogo catchers caudal causa causality causan causando causar causas causes cease ceases celebran
    celebrar celebration celebro cello celos celts cementing centaine centrist certainly certainty certamen certes
    certificacion certitude chained chair chaire chaise challenged challenger challengers chambre chambres chameleon
    chance chancery chances chandler chanel chang changed changent changera channeled chantage chante chanter
    chanteur chantier chapin chaqueta characteristics charge charger chargers charges chargeur charlene charte
    charters chase chases chasse chasseur cheat cheater cheaters cheating checa checkers cheek cheeks cheer cheering
    cheque cherchent chercher cherches cherchez chess chestnut chick chicks chimique chimiques chine chipping
    chirurgie chock chofer choisi choisie choisis choisit choque chose chuck chucking chuckling churches citation
    clans clapping claps claque clare clarence clarification clarifying clarte clash clashing clasicos clasificado
    clasp classed classics classified classy claus clause clave claws clays cleanest cleaning cleansing clearest
    clearing cleavage cleaver clemente clements clerical cleverly clicking climates clinics clipping clippings
    clocking close clothing clover clusters clutches cluttered coaches coarse coates coches codified coefficient
    cognition coherent coherente coincide coincidence colin collared collider collines collision collusion colony
    coloured colouring colton combates combating combinado combine combines comete comision comite comites commenca
    commence commend commendation commended commented commute commuted commuter commuters commutes compagne
    companion compara comparada comparado comparaison comparar comparer comparte comparten comparto compasion
    compassion compatible compete competed competent competes competing competir compiled compiler compiles
    compiling compleja complejo complet completa complete completed completer completes completo complets complexe
    complexion compliant complice complicidad complicite complicity complied complies complying componen comportant
    comporte comportent comporter composant composante composantes composed composee composees composent composer
    composes composing compositeur composition compositor composure comprarme compre comprend compress comptable
    comptent compter compteur comptez computation computations computing comte conceder concedes conceit conceive
    conception conceptions concepto conceptually concerns concert concerto concerts concesion concession conciertos
    concile concilio conclude concluded concluding conclusion concretos concussion condicion condicional condition
    conditioned conditioner conditions conductivity conference conferencia confesion confession confiable confiant
    confided confident confined confluence confondre conformation conforme conformes confounded confucian confunde
    confundir confusing congrats conjuring connecte connective connector connectors connects connotations conor
    conseille conseiller conseillere conseillers consent consents conservation conservatism conservatively
    conservatoire conservatrice considera consideran considerar considered consideree considero consiste consistent
    consistente consistently consolation constance constant construction consumer conte contempt contenant contend
    contends contener contenia contenir contenta contented contento contentos contenu contenus contes contest
    contesta conteste contesto contests contexte contexto contextos contexts contextual contiene contient continent
    continuing continuite contract contracts contractual contraint contraire contraria contrario contraste
    contrasted contrasting contrat contrato contrats contributing contributor contributors controle controlee
    controler controles controller controllers convened convenience convent convento convergent converse conversion
    convertible converts convient convince convocar convocation convoluted cooperating copas copine corde cordes
    corollary coronado corre correction corrections correctly correlate corse corta cortas cortesia cortez cortical
    corto cortos coste costes coton couche coucher coude coule coulter countered countering countess counties
    counting couper couple couples coups coupures courbe cours courte courted courtes courtesy cousine couvrent
    coverage cracking crafty cranking crashing crass crate crates creacion creaking creatine creating creativa
    creative creativo creature creatures credited crediting creditor creeping cremated cremation crescent crest
    crever criado cries criss criteres criterio criterion criterios critica critical critically critican criticar
    criticas criticise criticised criticize criticizes critico criticos critique critiques croatian crocs croft
    crois crops crossfit crouched crows crunches crutches cruzando cualquiera cuanta cuarenta cuarto cuento cuestion
    cuestiones cuidando culled cunado cures curie currency curse curses curtain curtains curva curvas curved curvy
    dalek dales daley damaging daraus daunting dazwischen deanna debera debia debian debunking debut debuting
    decalage decepcion deception decider decisive decisivo decode decoded deconner deconstruction decrease deduction
    deductions deere defaulted defaut defeating defect defected defection defective defectos deference defiance
    deficient deflated deflation deflecting deflection deformation degenerate degeneration degenerative degrading
    dejected dejemos delegation deleting delia deliberation delighted delights della delusion delusions demain
    demeaning demission demography demontrer demostrar denial denoting densite dentures departing dependance
    dependen dependencia dependencies dependency dependent dependents dependiente depicting depiction depletion
    deportes deporting depresion depression deputies derail derision desarrollada desarrolladas desarrollado
    desarrollados desarrollando desarrollar described describio describir descripcion descripciones descriptive
    descriptor descrito deseamos desertion designar designed desolation destination destined detailed detaille
    detain detained detaining detected detective detencion detention detest detester detractors devaluation devalued
    developed developpe developpee developpees developpent developper developpes develops devising devolution
    devotion diabetes diagnosed dialysis diana dianne diccionario dictionnaire dienen diener diensten dienstes
    diesel dieter diferente differed differential differentiate differently differenz differenzen differing
    difficile diffuser digestion digitally dilation dilution dimision dioses direccion direcciones directeur
    directing directional directiva directive directives directivo directivos director directors directos disability
    disagreed discriminate discriminating discrimination discursos discusion diseased disparos dispense dispersal
    disperse dispersed dispersion displacement dissected dissecting dissent dissociation distanced distancia
    distancias distaste distincion distinct distinctive distorting distract distraction diverge diverged divers
    diversa diversas diversify diversion diversite diversos diverted division divisiones divisions docteurs doctora
    doctoral doctorat doktor donation donne donnee donnes drainage draining drauf draussen dreading dreaming
    dressing dries drifting drinking dripping drive drooling druben dungeons duplication durability earliest
    earnings easement easter echanger echanges ecoutent ecris edeka editions educacion education efectiva efectivo
    effected effectif effectifs effecting effectively effectue effectuee effektiv effektive efficiency efficiently
    effizient effizienz eficiente egalement egard ehrliche eigentum eingebaut eisen ejecucion ejemplar eleccion
    electeur electing election elections elective electives electors electric electro electrode electronic elegance
    elegancia elemental elemento elementos elevent eleventh eligen eminence emitting empfehle empfiehlt empfohlen
    emport emulation emulator emulsion enact encender enchaine enchanted encode encoded encounter enema enforces
    engen engineered enhance enhancer enhances entertain entieres entites entitled entonces entrainer entrenar
    entscheiden entscheidend entwickeln entwickelt envision epidemic equality equitable equities erecting erection
    erfahren erfahrene erinnere erkennen erklare erlernen erlitten ernahren error errores ersparen esconder escorted
    escriben escribes escribio escribo escrita escritas escritor escritora espacial especifica especifico estables
    estandar esther estimacion estimado estimated estimating estimator estricto estructura estructural estructuras
    estudios ether ethnique ethniques ethnography eugen evacuacion evacuate evacuated evacuating evacuation
    evacuations evacuer evaluated eviction evidenced evidencia evidente evolucion evoluer evolution ewigen exacta
    exacto exaggerating exakt examenes examines excavation excepcion exception exceptions excerpts exchange
    exchanger exchanges exciting exclaimed exclaims exclamation excluded excluding exclusion executed execution
    exemplaire exemplary exemple exemples exert exertion exerts exigen exigence existing exiting expedited expelled
    expended experta expertise expertly experto expiration explicado explicit explico expliquent expliquez
    exploitation exploitations exploited exploiter exploiting exploits exploracion explorar exploration explorations
    explotacion explotar export exported exporter exporting exports expuestos exterior external externen externos
    extinction extraccion extracting extradition extrema extremas extremely extremen extremes extremos fable faction
    factions facto factored factories factory factually facturas facture factures facultes fading faille faintest
    fainting faithfully faking faktor falla fallo falls fallt fallu falscher false falter fande fantomes farther
    farthest fatal fatter fault faulty feasting feathers featured fecal federacion federation feiner felicidad feral
    fermentation fester fiabilite fiber fictional fiddling fielding fiend fighting figur figura figuras figured
    figurent figurer figurine figurines filed filer fille filler fillings filly filmer filtered filtre finalidad
    fined finger finir fiscales fitter fixer fixtures flames flanking flapping flashing flicking flirting flocking
    flooding flooring flopping fluido fluorescent flustered fluttering fokus folgendes folle folly folter fonce
    fonction fonctionnent fonctionner fonctions fonda fonder fondre fonds fondu fonte foreplay forestal foreword
    formation fortification fortified forwarded foster fotografia fotografie fotos foundational founding fraccion
    fracking fractional fracture fractured fractures fraktion frame framed frases freaking frecuencia freeport
    frequence frequences frequenz fretting friction frischen frischer fromages frosting fruition fullt funcion
    funcionaba funcionado funcionar funcione funciones funciono functionally functioned funda fundacion funding
    fundo funds fungus funktion furthest fusee fuses futility gales gambling gardiens gares gases gasoline gated
    gatos geant gedichte gefahren genannt genannte genannten genera generado generador generalize generally generan
    generar generated generateur generational generaux generell genetic genetica genetics genotype geografia
    geologist geometry geradezu gerant gerate gerichte gerichten gerichtet gerichts geruchte geschaut geschichten
    gesichter gesprach gestehen gestures gesturzt gettin gewachsen gewertet gewicht givin glassy gleaming
    globalisation globalisierung globalizacion globalization globally gloss googling goulding grabbing grabo
    graduado grady graficos grafting grafts grammaire gramos grandparent grano granos granting grape grapes graphene
    graphics graphique grasping grass grating gratuite grausam grazing greening greeting grieving grinding grinning
    gripping groaning groundhog grouping grout grund grundung guarding guide guider guides gutting habilidad
    hallways handel handelte handled handler handlers happend happened hardback hares harrogate hastings hatching
    hating haunting hauteurs havin hazing headings heard hearn hears hearst hearth hearty heaviest heaving heighten
    heimspiel heiss heisse heist herencia hides highlighted hikes hines hippy hired hologram honnetes honorary
    honouring hopital hospitable humain humana humano humilite humility hunan hyman iconography idealism identify
    identitat identite ignora ignored ignorent ignorer imagina imaginar imaginas imagine imagined imaginer imagines
    imaginez imagining imagino immersion immunity imogen impaired impartial impatient implicaciones implication
    implications implique impliquer importaba importan importancia importante importantes importantly importants
    importar importing imposant impossible impossibly impotence impotent improper improperly impunity inability
    inaccuracy inaction inactivation inappropriate incision inclined included incluida incluido inclure inclusion
    incluye incluyen incomparable inconsistency increased incursion indecision independant independante independants
    independence independently independiente indica indicado indicador indicate indicated indicates indicateur
    indication indicios indico indict indicted indie indies indifference indifferent indische individu individually
    individuel individuell individuels individuen individuo individuos individus individuum induce induces induction
    ineffective inefficient inestabilidad inexplicable infant infanta infante infantes infantil infantry infarction
    infeccion infecting infectious infektion infer inference inferieur inferior infernal infertile infiltration
    inflation inflection influenced influencer influencers influencia influencias influencing influential influenza
    informa informacion informal informan informar informaron informatica informatico informaticos informatics
    informatik informational informativa informative informativo informativos informed informo infraction
    infractions infusion ingenieria ingenierie ingenious ingestion inherent injection injections inner innern
    innovations inpatient inquired inquisition insanity inscription inscriptions inscrito inserting insider insiders
    insight insights insisted inspection inspiration instabilite instability instable installe installes instalment
    instalments instancia instant instante instants instinct instincts instituto instrumental instrumentals
    instrumento instrumentos insurance integers integracion integrado integral integrale integran integrante
    integrantes integrar integrate integrates integrating integrative integre integrer integres integridad integrite
    intel inteligente intelligent intelligente intelligents intelligenz intencion intent intention interaccion
    interacciones interact interacted interacting interacts interaktion intercept interception interdiction interdit
    interesa interesan intereses interesse interested interet interets interieur interior interiors interment
    internado internal internally internas internes internet internos interpreta interpretacion interpretaciones
    interpretado interpreted interpreters interpretive interred intersect intersecting intersex interval intervals
    intervencion intestinal intimate intolerance intuitive invalidate invariant invasion invencion inventeur
    invention inversa inversely inverted inverter investigado investigando investigar investigate investigated
    investigates investigator investigators investing invoices involved inwards inyeccion inzwischen irregular
    irrelevant islam issuance iteration iterations iterative jahrliche jumelles junction junctions jungeren
    justificacion kalten kannte karen karnten karte karton kassiert kasten kennel kennen kennst kinney kliniken
    knighted knitting kochen komplexe komponente konne konnt konntest konntet konservative konservativen konstanz
    konten kontrast kontrolle kontrollen konzept konzerne konzerte konzerten kreative kritiker kritisch kritische
    kunstlich lacrosse laden lagen lager laine laker lakers lament lamented laments landings lanes lange langeren
    lanterns lapel lapsed lapso larga larger largo lasse latest latex laurence laver lawyer lawyers leading leaking
    leaned leaping learners learnt leary lease leasing leaving leben leber lecteurs lectores lectures leder
    legalization legalize leger legion legions legit lehnen leichten lerne lerner lesbians lesquels lesson lessons
    levee levelled lever leverage lexikon liability libel liber licht lider liebe lieben liebes lieder liees liens
    lifeless lifeline lifes ligament lignes likewise linea linearly lineas lined linen linens liner liners linge
    links linus liter literary literate lived lively livery lives livre livrer llama llave lleva loathing localidad
    localidades localised localiser localite localites localities locality localizar localized locas locking locks
    logica logico logik login logis lokal lookin looming looms looping loops looser loosing looting lounge lounging
    lover loyal loyalist loyer loyers lucia lucie lucio lumber lunes macaulay machin machined machinery machte
    machtige madel madeline madels magnetism magnifica magnifique makin malas malasia malaysia mamas mambo mamma
    manipulacion manipulating manipulative manipulator manly mannliche marching margen margenes margie marginal
    mariages marin marins mariscal marked marking markings marlin marlins marlow marron marrying martin martins
    martires marvin masas maschine maschinen mashed massed master matas matching mater mather matices mating matrice
    matte matted mattel matteo mattered maturing meaningfully meantime measure measures mecanica mecanique
    mecaniques medal medellin mediados medial mediating medic medica medicaid medically medicare medicas medicaux
    medici medicinal medicinas medicion medics medieval medio medios mediziner mefiance megapixel meiden meier
    meilen meinten mejorado mejorar memoires memories menacing menciona mener menores mente mentoring merkmal messen
    messes messing methodist metido metoo mexicana mexico midfield milano minefield miner minima minimally mishap
    missed missiles missions missus mistake mistakenly mistakes mistaking mitochondrial mittel mitteln mittens
    mixtures moaning mobel mobilitat mobilite mobility moche mochtest modeled modelled modelling modem moderating
    moderator modere modernen modernes modernos modes modestes modestly modificado modified modulate module modules
    modulo molecule molecules monat monate monde monet monje monogram monograph monographs monstres monta monter
    monterey month montiert monto montrait montrant montre montreal montrent montres monts monty mopping moral
    morality morelos morrow mortalidad mortalite mortality mortally morte mortelle mortified moselle mostraba
    mostrado mostraron motel motels motivacion motivation motivations motoring moulding mounting mouthful mouthing
    movilidad muestran muestras mufti mulan multa multiplayer multiplie multiplied multiplier multiply munition
    munitions muscular museen mussel musst musstest mustered mutter mutti mutually mythological mythology nachster
    nacionales naked namen names narration national nationale nationalen nationaler nationales nationals naturally
    naturel naturels necesita necesitan necesitar necesitas necesite necesites necessite necessity needless negar
    negativa negativas negative negatively negativen negativo negativos nervt nettes networked neuro neutral
    neutrals neutron neutrons neuve newfound nexus nicht niece nieve noire noisy nombrado nomme nommee nommer noose
    norma normalcy normally norman normas normes norse nosotras nothin noticing noting notting nucleic nucleo
    numbered nummer nursed nurturing nutze nutzer nutzern nutzten obersten objected objectif objection objekt objet
    objetivos objeto observacion observational obtained obtencion obtention obtienen occasion ocupando ofcourse
    oigan omission omissions omitting ontology opcion opciones operador operated operates operateur operatic
    operation operations operative operativo opinions opponent opposite opposites optik optimal optimale optional
    optisch orbiting ordained organico organics organise organised organisee organiser organises organism organisme
    organismes organisms organist organizo organo organos otter otters outposts outsider outsiders outweigh
    outweighed overland overlay overload pacers paciente packaged paient pained pains paint paintings paints
    paisible palabra palace palin panorama panting pants panza papiers paradies parading paradise paraitre paralysis
    parametres parametros parasitic parcial parcs pareceria pared parentage parenting parfaite pariente parientes
    paris parks parque parson parti partially participar particle particularly particulas particulate particules
    particulier partidas partiel partis partisan partitioned partnern parto party partying partys parution parvient
    pasara pasos passable passagen passe passed passee passend passenger passent passer passes passez passiert
    pastores pastures patched patchy patent patented patentes patents paterson patience patientin patiently patten
    patter patterned patterson pausen payers payments peace pearson pease peint peinture peintures pelicans pelos
    pelvic penetracion penetrate penetrating penetration pensions percentile percussion perdon performed perimeter
    peripherie periphery permanence permanent permette permission permissions permit peroxide perpetual persians
    perso persona personal personas personne persuasion pertaining pertains pertenece pestilence pests peterson
    petit petition petri petty peuple pflaster phare phares phased phishing phonograph photographed photographers
    photographie photons phrased physical physicist physicists pictured pierson pigmentation pinterest pints
    pinturas pisos pitch pitchers pitches placa placed placer plage plague plaid plaie plainfield plaint plait
    planches plane planificacion planting plastered plate playin pleading pleas pleased pleasing pleasure plein
    plunging pluto pocas podia podra poetique poils poing pointers pointy poissons polemiques polished polled
    polling polygamy pondria ponds ponts poole pooped pooping popsicle porcentaje pornography portions porto ports
    posible posibles posicion posiciones positifs position positioned positionen positions postures potus poumons
    pounding pourcentage pourrais pourrons pouvoirs praising prasent precedence precinct precincts predation
    predator predicate predicated predictive predigt predit preferable preferee preferences preferencia preferent
    preferez prefet prefiere prefieres prefiero prematurely premiers prennent preparacion preparation prescribe
    prescription prescriptions prescrit presence presenta presentan presentar presentation presented presentee
    presently presento preservacion preservative preset president presos pressing pression presunto preter prevent
    prevents prevision previsions prima primates print printing prints prisa prism probable probando probed problema
    problemas probs procesion produccion producciones produced producer producers producir product production
    productions producto productor products produire produite produkte produzca profe profiting profound profunda
    profundas programm programme programmed programmes programms progresiva progresivo progress progresse progressif
    progressing progression progressiste progressively proie projected projectile projectiles projecting projective
    projector projectors projekt projekte projekts projet promising promo promoting prone pronto proofing
    propagating propane propel property proponen proponer proposal propose proposed proposee proposees proposent
    proposer proposes propping propre proprietaire proprietor proprietors propriety prose prosecution prosecutions
    prospect prosper proteccion protect protection protections protects protocol protocolo protocols protokoll
    prototyping provided provider providers proviene province proving provision provo proximite proyeccion proyecto
    public publica publicado publican publicar publicas publicly publics publisher publishers publishes puncture
    punished punition purement pusieron quack qualification qualify qualitat qualitative qualite qualites quant
    quantity quantum quell quelques questioned quiera quiere quirk quitarle quitting raced racheter racional racking
    racontent radiance radiation radio raged railings railways raked raking rally rambling ramos ranchers randomly
    ranging rankin ransom ranting raped rapid rapidamente rapidez rapidite rapids rapports raros rasse rater
    ratified rational rationalize rationally rationing rawlings rayon rayonnement razed razonable reaccion reaching
    reacteur reacteurs reacting reaction reactive reactors reaktion realignment realise realised realisee realiser
    realises realismo realist realista realiste realty realy reaping rearing reasonably reasoned reassured rebelled
    rebounding recalled receding recemment recently reception recesion recession rechercher reciente recientes
    reciprocal reciprocate recitation reciting reckless reckoning recomendado recomendar recomendo recomiendo
    recommande recommander recommence recommencer recompensa reconsider reconstruccion reconstructing reconstructive
    recorder recording recortes recounted recourse recreation recruiting recuento recuerdo recuperation recurrence
    recurring recyclage redaccion redacted redaction redaktion redding redefine redesign redress reductive reduire
    reduktion reevaluate referenced referencia referent referente referentes refinance refined refinery reflective
    reformation reformes reforming refraction refrain refrained refugie refugies refuse refute regaining regal
    regalar regard regardant regarded regardent regarder regardez regards regenerate regenerating regeneration
    regenerative regent regimens regiment regina reginald regional regionale regionales regionals register registers
    registra registrado registrar registraron registre registres registrieren registry regla regle reglement regler
    regne regresa regresan regresar regrese regreso regressive regret regrets regula regularly regulate regulated
    regulates regulation regulations regulier reichtum reilly reina reine rejecting rejection rejections relance
    relancer relate relates relatifs relating relation relativ relativa relativas relatively relativo relativos
    relaxed relaxing relay relayed relaying released relegated relevanz relevent reliable reliever religion
    religions reloaded reloading relocated remaining remaking remarking remission remote removed remparts remporte
    renaming rende rends renforts rentabilidad rental renting renverse repaired repart repartis repartition repeated
    repeating repent rephrase replaced replayed replication replique reportar reported reporters repost represent
    representa representacion representan representar representatif representative representativo represente
    represented representee representent representes represents represion repress repression reproach reproduce
    republished requiere requieren requiert resale rescate rescuing researched resection resemble resent reservation
    reservations reset resetting residence residing resisted resisting resistor resolucion resonant resonanz
    resonate resort resorting resorts respectability respected respiration responsabilite ressemble restoring
    restrain restrained restraining restraint restructure resuelto resulta resultan resultar resultat resultats
    resulted resulting resulto resuming resurrect retailing retain retained retaining retarded retencion retention
    retira retort retourne retrait retraite retribution retrieve retrieved retriever returned reunions reuniting
    revenant reverence reversal reverting reviewed revision revisions revolting revolucion revolution revolutions
    rewarded rewarding reworking rewritten rincon ringside roasting robos roles romantic romantics rounding rubles
    ruining ruled ruler rulers runnin rustling rutina saale sable sachlich saeed sagte saine saint sainte salarial
    sales saliendo salinity sammlung sampled sampler sanction sanctions sanctity sanger sangerin sanitaire sanitario
    sanitarios sanitary santa santi santo satisfaccion saturation saute scala scaled scalp scaly scams scant
    scarcity scare scared scares scariest scars schaefer schale schau schaue schaust schicken schickt schickte
    schizophrenic schlacht schlachten schlange schlecht schlechten schlicht schnellste schuchtern schwanger scones
    scope scopes scorched scorecard scorer scorers scorn scorned scorsese scots scoured scouring scrapping screaming
    screeching screwing searched searchers sears seasoning seated seating secher secluded seclusion seconded
    secondly secteurs sectores securing security sedative sediment seduction seductive seething segmented segmento
    sehen seien seleccion selecting selection selectively selector selectors semen semester semesters senda sensed
    sensei sensibility sensible sentenced sentencia sentencias seperate sequenced serenity serment sesiones sessions
    settling seulement sever severa severely severing severn sexting sexuelle shade shadowing shaft shake shale
    shambles shame shane shaped shard share shared shark shave shawn shear shears shifty shilling shine shingle
    shingles shipley shipping shire shirt shitting shocking shooting shootout shopping shore shores shortest shots
    shoulda shouldnt shouting shoutout shoving showering showy shutting sicherheit sichert sicherte sicker sideline
    sidelines sides siding sifting signaled significan significant similaire similarly simpler simplest simplify
    simulates simulating simulator sindicato sindicatos singe singled sintesis sistemas sited sitting situacion
    situated situational skate skipping skirting skull slade slapping slashing slate slated sliced slicing slick
    slider sliders slime slimming slinging slipping slots slowed slowing smacking smalling smart smashing smearing
    smell smelting smoothed smoothie smoothing snape snapping snare sniffing snore snowing sociales socialization
    socialize soldaten solde solide solides sollt solltest solltet solution somethin sonder songe sonia sonja sonne
    sonya soothing sores souhait souhaitant souhaitent souhaiter souhaitez soumission sounders sounding souper
    sowing spaced spacer spacey spacious spade spaniard spanking spanned spannend spans spare spares sparsely spate
    spatially spear spears specified specifies speck specs speedy speicher spelt spend spent spice spices spied
    spike spill spins spire spite spits spitting splice splicing spoiling spore spores sporting sports spotting
    sprained spreading sprich sprinting spruch square squarely squares squashed stabbing stabile stabilize
    stabilized stabilizer stacking stade stadte staffing stage staged staining stake staking stale stalking stall
    stalling stamping standing standort stanford staple starch stare stared staring starlight starling starring
    started starting startled starving stated stating stationed stats statue stave stayed staying stealing steaming
    steed steel steep steer stellten stepping steven stewards stiff stifling stift stiftung stimulation stinging
    stint stipulation stoddard stoff stoke stokes stole stone stoned stoner stoney stopping store stored stores
    stoves strained straining strapping strike structurally structured struktur strukturen studentin studie studied
    studien studiert studios studiums studs stuff stunning stupides sturdy sturgeon styled stylo submissive
    substitute substituting subtitle subtlety subtly sucer sufficient sufficiently suggested suggesting suggestive
    suitability suitably sunde supera superb supermodel supero supervise supervisor supper supported surgen
    surgically surgieron survived survives survivor survivre sustained sustancias sustitucion sustituir swans
    swarming swatches swear swears sweating sweeping swift swing swore symmetry synapse synopsis synthese synthesize
    synthetic systemic tabellen tackling tacticas tailor takin talking talks taming tanks taping tasas tasking tatar
    tater taunting tausende taxing technical technicien tecnico tecnicos telegraph tellement temas temor tempo
    temporada temporary tempt tendra tenement tenet tensions tente tenth tents tesis texted textures thanking thanos
    thematic thingy thongs thorax thorough thrashing threading throwing thrust tides tiefer tienden tienne tiennent
    tient tieren timed timeless timeline timer timers timor tirada tirade tirado tirage tiras tireless tires tissu
    tissus tolerable tolerancia tolerant toleranz tolerate tolerating tomen tomes toner toning topographic
    topography torah toren torrance totalidad totalite totality totalled toten toter totes tough toujours touted
    towed towel toying traced tracer tracey tracing track tracking traction tractors tracy trade traduccion
    traduction traen trage tragt traia traicion trail trailed trailing trainee trainees trainers trait traje
    trajectoire trajectory trame trance trancher tranquil transaction transfert transferts transform transforma
    transformado transformar transforme transformed transformee transformo transforms transient transition
    translating translational translator translucent transmet transmis transmit transmite transmits transparence
    transparencia transparenz transponder transport transportar transporte transported transportes transportiert
    transports trapping trashing trate traue traut traversant traverse traversed traversee traverser trayectoria
    treading treasured treating trece trending trennung treve triangle tributes tripping trost trough trouvons truce
    truest truss trusting trusty truthfully tryin tubing tubular tudor tueur tumeur turing turning tusks tutor
    tutoring twain tweaking twerking tying typography ubers ulterior ultimate unavailable uncalled unconditional
    uncontrolled understandably understated understood understudy unexpected unexplained unfriendly unhelpful unica
    unido unies uniforme uniformes unilateral unimportant unite unites unity universe university unlikely unmasked
    unnatural unpublished unreasonable unrelated unseen unsicher unstable unsuitable unsupervised unsure untrained
    untrustworthy unusually unwanted unwilling unwritten upgrading upsetting urgently utilised utilisent utilisez
    utiliza utilizada utilizado utilizan utilizaron utilize utilized utilizes vacation vagin vague vagues valdes
    validated validation validite valiente valientes valle valles valuation valuations valued valve valves variacion
    variaciones variance variant variante varianten varios variously vascular vaseline vayan vegan veneration
    ventures veranderte veranderten verankert verbally verbinden verbindet verbunden verdicts verfallen vergehen
    vergleicht verification verily verity verkundet verliehen vermeiden versehen versetzen versions versos
    verstecken verstehe verstehst versteht versuchen vertical vertus verwandeln verwandelt verwandt verwandte
    verwandten verweisen verwendung verwirrung verwundert vessel vetement veterinaire viability victor victors vider
    vides vimeo virtualization virtually visibilidad visit visualized visually visuelle vivait vivia vivid vivio
    vivir vocalist vogel vorfahren vorherigen vosotros vouchers voudrait vowel vowels vuestras vuestros wahre waite
    waited waiting wakefield walkways wandered wanderer waned warden wards warrants warten wasted watchers weibchen
    weich weiche weichen weiden weigh weighed weighs weighty weite welch welcomes wenden werben werde werdenden
    werder werdet werfen werken werten wether whale whatsoever whenever whine whipping whiter whitey whiting
    whomever whore whyte widening widerstand widow widows wight winfield winnings wisely wissenschaften wolken wolle
    wollten woods wording workin world worlds worms worrying worte worter worterbuch wortes worthing woulda wound
    wounding wracking wrapping wrecking wrestling wright wring writhing yearning youthful zeilen zeiten zeugen
    zulassen zulassig
"""

LOOKALIKES = frozenset(_WORDS.split())
"""Words that are never taken for typos."""
